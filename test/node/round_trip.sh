#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Format, mount, look, write, unmount, mount again: the everyday.
. "$(dirname "$0")/lib.sh"
start round_trip

format
out=$("$MOORFS" mount "$META" "$MNT" --json)
[ "$(json state <<<"$out")" = serving ] || fail "mount did not report serving: $out"
[ "$(findmnt -no FSTYPE,SOURCE "$MNT" | tr -s ' ')" = "fuse.moorfs moorfs:vol" ] || fail "findmnt shows something else"

for key in client_pid keeper_pid mountpoint state version uptime_s dirty_bytes open_files cache_memory_bytes \
  flush_errors read_errors volume uuid store meta restarts; do
  status $key >/dev/null || fail "status lacks $key"
done
[ "$(status mountpoint)" = "$MNT" ] || fail "status names another mount point"
is_ours "$(status client_pid)" || fail "client_pid is not the client's"
is_ours "$(status keeper_pid)" || fail "keeper_pid is not the keeper's"
"$MOORFS" status | grep >/dev/null "^$MNT: serving" || fail "status without arguments does not list it"
[ "$("$MOORFS" status --json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)))')" = 1 ] || fail "not one mount"

# The kernel reads far ahead; the keeper and the client leak no descriptor.
[ "$(cat "/sys/class/bdi/$(mountpoint -d "$MNT")/read_ahead_kb")" = 4096 ] || fail "read-ahead is not set"
[ "$(find "/proc/$(status keeper_pid)/fd" -lname /dev/fuse | wc -l)" = 1 ] || fail "the keeper has not one /dev/fuse"

mkdir "$MNT/dir"
head -c 3000000 /dev/urandom >"$MNT/dir/file"
echo small >"$MNT/small"
sum=$(md5sum <"$MNT/dir/file")
exec 9<"$MNT/dir/file"
[ "$(status open_files)" = 1 ] || fail "one file is open, status says $(status open_files)"
exec 9<&-

umount_it
is_mounted && fail "still mounted"
[ -z "$(our_processes)" ] || fail "processes are left: $(our_processes)"
[ -z "$(ls -d "$T"/run/*:* 2>/dev/null)" ] || fail "runtime files are left"
[ -z "$(ls "$MNT")" ] || fail "something was written below the mount point"

mount_it
[ "$(md5sum <"$MNT/dir/file")" = "$sum" ] || fail "the file changed"
[ "$(cat "$MNT/small")" = small ] || fail "the small file changed"
"$MOORFS" stats "$MNT" --count 1 | grep >/dev/null "req/s" || fail "stats shows no table"
"$MOORFS" stats "$MNT" --count 1 --json | json requests >/dev/null || fail "stats lacks requests"

# A mount of a directory of the volume.
umount_it
mount_it --subdir /dir --read-only
[ "$(md5sum <"$MNT/file")" = "$sum" ] || fail "subdir shows another file"
touch "$MNT/file" 2>/dev/null && fail "a read-only mount was written to"
umount_it

# In the foreground, SIGTERM ends it in order.
"$MOORFS" mount "$META" "$MNT" --foreground 2>"$T/foreground.log" &
PIDS+=($!)
front=$!
wait_until 10 is_mounted || fail "the foreground mount did not come"
wait_until 10 test -e "$MNT/small"
echo more >"$MNT/more"
kill -TERM $front
wait $front || fail "the foreground mount ended with $?: $(cat "$T/foreground.log")"
is_mounted && fail "still mounted after SIGTERM"
mount_it
[ "$(cat "$MNT/more")" = more ] || fail "what was written in the foreground mount is lost"
umount_it

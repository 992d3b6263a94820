#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every way a mount can end: in order, busy, lazily, behind our back, by
# signals, with a store that refuses.
. "$(dirname "$0")/lib.sh"
start unmounting

format
gone() { [ -z "$(our_processes)" ]; }

# Busy: refused, the holder is named, and the mount serves on.
mount_it
echo one >"$MNT/one"
sleep 300 9<"$MNT/one" &
PIDS+=($!)
holder=$!
refuses "sleep (pid $holder" umount_it
[ "$(cat "$MNT/one")" = one ] || fail "the mount does not serve after a refused unmount"

# Lazily: the name goes, the open file lives until its last user closes it.
umount_it --lazy
is_mounted && fail "still mounted after --lazy"
gone && fail "the client left although a file is open"
[ "$(cat "/proc/$holder/fd/9")" = one ] || fail "the open file cannot be read any more"
refuses "mounted at $MNT" "$MOORFS" mount "$META" "$MNT"
kill "$holder"
wait_until 10 gone || fail "the processes do not end with the last user"

# Somebody else's umount, plain and lazy: unstored data is stored all the same.
for how in "umount -i" "umount -i -l"; do
  mount_it
  head -c 2000000 /dev/urandom >"$MNT/file"
  sum=$(md5sum <"$MNT/file")
  $how "$MNT"
  wait_until 10 gone || fail "the processes do not end after '$how'"
  [ -z "$(ls -d "$T"/run/*:* 2>/dev/null)" ] || fail "runtime files are left after '$how'"
  mount_it
  [ "$(md5sum <"$MNT/file")" = "$sum" ] || fail "data is lost after '$how'"
  umount_it
done

# SIGTERM to the keeper: in order. Busy: it stays.
mount_it
echo two >"$MNT/two"
sleep 300 9<"$MNT/two" &
PIDS+=($!)
holder=$!
kill -TERM "$(status keeper_pid)"
wait_until 10 grep -q "in use by sleep" "$T/run/vol.log" || fail "the log does not name the holder"
[ "$(cat "$MNT/two")" = two ] || fail "a busy mount ended by SIGTERM"
kill "$holder"
wait "$holder" 2>/dev/null || true
kill -TERM "$(status keeper_pid)"
wait_until 10 gone || fail "the keeper does not end by SIGTERM"
is_mounted && fail "still mounted after SIGTERM"

# SIGTERM to the client: it steps back, a successor serves on; nothing fails.
mount_it
(for i in $(seq 400); do echo "$i" >"$MNT/load.$((i % 7))" || exit 1; done) &
load=$!
for _ in 1 2 3; do
  before=$(status client_pid)
  kill -TERM "$before"
  changed() { [ "$(status client_pid)" != "$before" ] && [ "$(status state)" = serving ]; }
  wait_until 10 changed || fail "no successor after SIGTERM"
done
wait $load || fail "the load failed while clients changed"

# A store that refuses: nothing is unmounted, and the message says how much is
# unsaved; dropping it needs to be asked for.
umount_it
mkdir "$T/disk"
mount -t tmpfs none "$T/disk"
cp -a "$T/data" "$T/disk/data"
rm -r "$T/data"
mkdir "$T/data"
mount --bind "$T/disk/data" "$T/data"
mount_it
store_readonly() { mount -o "remount,bind,$1" "$T/data" && mount -o "remount,$1" "$T/disk"; }
store_readonly ro
head -c 1000000 /dev/urandom >"$MNT/stuck"
refuses "not stored" umount_it
is_mounted || fail "unmounted although data was not stored"
[ "$(stat -c %s "$MNT/stuck")" = 1000000 ] || fail "it does not serve after a refused unmount"
[ "$(status flush_errors)" -ge 1 ] || fail "status counts no flush error"
[ -n "$(status last_error)" ] || fail "status does not say what is wrong"
store_readonly rw
umount_it || fail "not unmounted although the store is back"
mount_it
[ "$(stat -c %s "$MNT/stuck")" = 1000000 ] || fail "the data is not stored"
store_readonly ro
head -c 1000000 /dev/urandom >"$MNT/dropped"
umount_it --discard-unsaved 2>/dev/null || fail "--discard-unsaved did not end it"
wait_until 10 gone || fail "processes are left after --discard-unsaved"
store_readonly rw
mount_it
[ "$(stat -c %s "$MNT/stuck")" = 1000000 ] || fail "older data is lost"

# Somebody else's umount while the store refuses: the data waits for it, and
# `status` shows that.
store_readonly ro
head -c 1000000 /dev/urandom >"$MNT/late"
umount -i "$MNT"
storing() { [ "$("$MOORFS" status --json | python3 -c 'import json,sys; print([m["state"] for m in json.load(sys.stdin)])')" = "['storing']" ]; }
wait_until 10 storing || fail "status does not show that data waits"
refuses "mounted at $MNT" "$MOORFS" mount "$META" "$MNT"
store_readonly rw
wait_until 20 gone || fail "the data is not stored"
mount_it
[ "$(stat -c %s "$MNT/late")" = 1000000 ] || fail "data is lost after umount -i"
umount_it
"$MOORFS" fsck "$META" >/dev/null || fail "fsck finds damage"

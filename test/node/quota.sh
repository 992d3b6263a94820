#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Quotas on a mount: the limit is exact, also over the death of clients and
# with everything still in memory; overwriting within a full quota works; df
# shows the quota; a recount finds what the counters say.
. "$(dirname "$0")/lib.sh"
start quota

quota() { "$MOORFS" quota "$@"; }
used() { quota get "$MNT" "$1" --json 2>/dev/null | json "$2"; }
check() { quota check "$MNT" >/dev/null 2>&1 || fail "a recount finds something else: $(quota check "$MNT" 2>&1)"; }
client_pid() { "$MOORFS" status "$MNT" --json | json client_pid; }
wait_for_client() {
  local _
  for _ in $(seq 100); do
    [ "$(client_pid 2>/dev/null)" != "$1" ] && stat "$MNT" >/dev/null && return
    sleep 0.1
  done
  fail "no successor of client $1"
}

format --trash-days 1
mount_it
mkdir -p "$MNT/a/b"
quota set "$MNT" "$MNT/a" --bytes 10MiB --inodes 20 >/dev/null 2>&1

# Past the limit, all of it unflushed: exactly ten MiB fit.
out=$(dd if=/dev/urandom of="$MNT/a/f" bs=64k count=1000 2>&1) && fail "64 MiB fit into 10"
case $out in *"Disk quota exceeded"*) ;; *) fail "another error than EDQUOT: $out" ;; esac
[ "$(stat -c %s "$MNT/a/f")" = $((10 << 20)) ] || fail "$(stat -c %s "$MNT/a/f") bytes fit into 10 MiB"
sync "$MNT/a/f"
[ "$(used "$MNT/a" used_bytes)" = $((10 << 20)) ] || fail "used is $(used "$MNT/a" used_bytes)"
echo x >"$MNT/a/b/g" 2>/dev/null && fail "a full quota takes another byte"
[ "$(df --output=size,avail -k "$MNT/a" | tail -1 | xargs)" = "10240 0" ] || fail "df shows $(df -k "$MNT/a" | tail -1)"
[ "$(df --output=avail -k "$MNT" | tail -1)" -gt 10240 ] || fail "df of the root shows the quota"

# In place, again and again, stored and unstored: no room is needed.
for _ in 1 2 3; do
  dd if=/dev/urandom of="$MNT/a/f" bs=1M count=10 conv=notrunc,fsync 2>/dev/null || fail "overwriting fails in a full quota"
done
dd if=/dev/urandom of="$MNT/a/f" bs=4k count=500 seek=100 conv=notrunc 2>/dev/null || fail "a small overwrite fails"
[ "$(used "$MNT/a" used_bytes)" = $((10 << 20)) ] || fail "overwriting changed what is used"
check

# Others write on; what is removed is free at once, trash or not.
dd if=/dev/zero of="$MNT/out" bs=1M count=12 2>/dev/null || fail "a quota stops what is outside"
cp --reflink=never "$MNT/out" "$MNT/a/copy" 2>/dev/null && fail "a copy went past the quota"
rm -f "$MNT/a/copy" "$MNT/a/f"
head -c 5000000 /dev/urandom >"$MNT/a/again" || fail "what was removed does not give room"
fallocate -l 20M "$MNT/a/big" 2>/dev/null && fail "fallocate beyond the quota"
rm -f "$MNT/a/big"
mv "$MNT/a/again" "$MNT/moved" || fail "mv out of a quota (it copies)"
[ "$(used "$MNT/a" used_inodes)" = 3 ] || fail "a, b and g are $(used "$MNT/a" used_inodes) inodes"
python3 - "$MNT" <<'P' || fail "rename or link between quotas is not EXDEV"
import errno, os, sys
mnt = sys.argv[1]
for call in (os.rename, os.link):
    try:
        call(mnt + "/moved", mnt + "/a/moved")
    except OSError as e:
        assert e.errno == errno.EXDEV, e
    else:
        sys.exit(1)
P
n=0
while touch "$MNT/a/file$n" 2>/dev/null; do n=$((n + 1)); done
[ "$n" = 17 ] || fail "$n files were made where 17 have room"
rm "$MNT"/a/file*
check

# A file that is open without a name counts until it is closed.
exec 7>"$MNT/a/open"
rm "$MNT/a/open"
head -c 9000000 /dev/zero >&7 || fail "writing to an open file"
head -c 5000000 /dev/zero >&7 2>/dev/null && fail "an unlinked file writes past the quota"
exec 7>&-
for _ in $(seq 50); do
  [ "$(used "$MNT/a" used_bytes)" = 4096 ] || [ "$(used "$MNT/a" used_bytes)" = 0 ] && break
  sleep 0.1
done
[ "$(used "$MNT/a" used_bytes)" -le 4096 ] || fail "a closed file still counts: $(used "$MNT/a" used_bytes)"

# Clients die in the middle: the limit holds, counters stay exact.
for round in 1 2 3; do
  pid=$(client_pid)
  (dd if=/dev/urandom of="$MNT/a/r$round" bs=128k count=400 2>/dev/null || true) &
  writer=$!
  for i in $(seq 30); do touch "$MNT/a/b/t$i" 2>/dev/null || true; done &
  toucher=$!
  sleep 0.0$((round * 2))
  kill -KILL "$pid"
  wait $writer || true
  wait $toucher || true
  wait_for_client "$pid"
  sync "$MNT/a/r$round"
  total=$(find "$MNT/a" -type f -printf '%s\n' | awk '{ s += int(($1 + 4095) / 4096) * 4096 } END { print s + 0 }')
  [ "$total" -le $((10 << 20)) ] || fail "after a client's death $total bytes are in 10 MiB"
  check
  [ "$(find "$MNT/a" | wc -l)" -le 20 ] || fail "more than 20 inodes"
  [ "$(used "$MNT/a" used_inodes)" = "$(find "$MNT/a" | wc -l)" ] || fail "inodes are miscounted"
  rm -f "$MNT"/a/r* "$MNT"/a/b/t*
done

# Many writers share what is left.
pids=()
for i in 1 2 3 4; do
  (dd if=/dev/urandom of="$MNT/a/w$i" bs=256k count=40 2>/dev/null || true) &
  pids+=($!)
done
wait "${pids[@]}"
sync "$MNT"/a/w*
total=$(cat "$MNT"/a/w* | wc -c)
[ "$total" -le $((10 << 20)) ] || fail "four writers put $total bytes into 10 MiB"
[ "$total" -ge $((9 << 20)) ] || fail "four writers were refused at $total bytes of 10 MiB"
check

# Set on what is there, below and above another.
mkdir -p "$MNT/x/y"
cp "$MNT/moved" "$MNT/x/y/m"
quota set "$MNT" "$MNT/x/y" >/dev/null 2>&1
quota set "$MNT" "$MNT/x" --bytes 6MiB >/dev/null 2>&1
head -c 2000000 /dev/zero >"$MNT/x/y/more" 2>/dev/null && fail "the outer quota does not hold inside the inner one"
check
umount_it

# The same unmounted, by paths inside the volume; and as a mount of its own.
quota check "$META" >/dev/null 2>&1 || fail "a recount of the unmounted volume finds something"
"$MOORFS" fsck "$META" >/dev/null 2>&1 || fail "fsck finds damage"
quota set "$META" /x --bytes 8MiB --json 2>/dev/null | json bytes | grep -qx $((8 << 20)) || fail "set of an unmounted volume"
[ "$(quota list "$META" | wc -l)" = 3 ] || fail "list of an unmounted volume"
quota get "$META" / >/dev/null 2>&1 && fail "a quota where none is"
mount_it -o subdir=x
[ "$(df --output=size -k "$MNT" | tail -1 | xargs)" = 8192 ] || fail "df of a mounted subdirectory: $(df -k "$MNT")"
head -c 9000000 /dev/zero >"$MNT/z" 2>/dev/null && fail "a mounted subdirectory ignores its quota"
umount_it

# A dump keeps them; damage is found and put right.
"$MOORFS" dump "$META" "$T/dump" >/dev/null 2>&1
mv "$T/meta" "$T/old"
mkdir "$T/meta"
"$MOORFS" load "$META" "$T/dump" >/dev/null 2>&1 || fail "load"
quota check "$META" >/dev/null 2>&1 || fail "a loaded dump counts something else"

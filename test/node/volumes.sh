#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `moorfs volume` on a volume that is mounted, one that is not, and with many
# callers at once; and what a client answers to the mount manager.
. "$(dirname "$0")/lib.sh"
start volumes

volume() { "$MOORFS" volume "$@"; }
# ask JSON: the client's answer on its control socket.
ask() {
  python3 - "$T"/run/*/client.sock "$1" <<'P'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n")
print(s.makefile().readline().strip())
P
}
# expect TEXT PATTERN WHAT
expect() {
  # shellcheck disable=SC2254 # it is a pattern
  case $1 in $2) ;; *) fail "$3: $1" ;; esac
}

format
# Unmounted.
expect "$(volume create "$META" pvc-1 --bytes 10MiB --inodes 50 --parameter a=b --json)" '*"created":true*' create
expect "$(volume create "$META" pvc-1 --bytes 10MiB --inodes 50 --parameter a=b --json)" '*"created":false*' "create again"
out=$(volume create "$META" pvc-1 --bytes 11MiB --inodes 50 --parameter a=b --json 2>/dev/null) && fail "another size is accepted"
expect "$out" '{"error":{"errno":17,"message":*' "EEXIST"
[ "$(wc -l <<<"$out")" = 1 ] || fail "an error is more than a line"
out=$(volume show "$META" none --json 2>/dev/null) && fail "show of nothing"
expect "$out" '{"error":{"errno":2,*' ENOENT
expect "$(volume delete "$META" none --json)" '{"deleted":false}' "delete of nothing"
expect "$(volume capacity "$META" --json)" '{"available_bytes":*,"total_bytes":*}' capacity

# Several commands at once take turns.
pids=()
for i in 1 2 3 4 5 6; do
  volume create "$META" "many-$i" --json >"$T/out$i" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || fail "one of several at once failed"; done

# Mounted: made and unmade behind the kernel's back, seen at once.
mount_it
stat "$MNT/volumes/late" 2>/dev/null && fail "it is there already"
begin=$(date +%s%N)
volume create "$META" late --bytes 4MiB >/dev/null
took=$((($(date +%s%N) - begin) / 1000000))
[ "$took" -lt 1000 ] || fail "create took $took ms"
stat "$MNT/volumes/late" >/dev/null || fail "a new volume is not seen"
dd if=/dev/zero of="$MNT/volumes/late/f" bs=1M count=10 2>/dev/null && fail "a volume's quota does not hold"
[ "$(stat -c %s "$MNT/volumes/late/f")" = $((4 << 20)) ] || fail "$(stat -c %s "$MNT/volumes/late/f") bytes in 4 MiB"
[ "$(volume list "$MNT" --json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)["volumes"]))')" = 8 ] || fail "list"
[ "$(volume list "$MNT" --after many-3 --limit 2 | wc -l)" = 2 ] || fail "a page of the list"

expect "$(ask '{"cmd":"volume-stat","directory":"volumes/late"}')" '*"available_bytes":0,*"total_bytes":4194304*"used_bytes":4194304,"used_inodes":2*' volume-stat
expect "$(ask '{"cmd":"volume-stat","directory":""}')" '*"ok"*"total_bytes"*' "volume-stat of all"
expect "$(ask '{"cmd":"volume-stat","directory":"../x"}')" '*"errno":22*' "a path that leads out"
expect "$(ask '{"cmd":"prepare-root","directory":"p/q"}')" '*"errno":2*' "prepare-root of nothing"
expect "$(ask '{"cmd":"prepare-root","directory":"p/q","create":true}')" '{"ok":{}}' "prepare-root makes"
[ -d "$MNT/p/q" ] || fail "prepare-root made nothing"
expect "$(ask '{"cmd":"prepare-root","directory":"volumes/pvc-1","gid":1234}')" '{"ok":{}}' "prepare-root with a group"
[ "$(stat -c %g:%a "$MNT/volumes/pvc-1")" = 1234:2777 ] || fail "group and set-gid: $(stat -c %g:%a "$MNT/volumes/pvc-1")"
before=$(stat -c %z "$MNT/volumes/pvc-1")
ask '{"cmd":"prepare-root","directory":"volumes/pvc-1","gid":1234}' >/dev/null
[ "$(stat -c %z "$MNT/volumes/pvc-1")" = "$before" ] || fail "prepare-root changes what is right already"
ln -s /etc "$MNT/p/link"
expect "$(ask '{"cmd":"prepare-root","directory":"p/link/x","create":true}')" '*"errno":20*' "a symbolic link is followed"

# A large tree goes at once, and its space behind it.
mkdir -p "$MNT/volumes/pvc-1"/d{1..5}
for d in 1 2 3 4 5; do (cd "$MNT/volumes/pvc-1/d$d" && for i in 1 2 3 4 5 6 7 8; do echo $i >f$i; done); done
exec 7<"$MNT/volumes/pvc-1/d1/f1"
begin=$(date +%s%N)
expect "$(volume delete "$META" pvc-1 --json)" '{"deleted":true}' delete
took=$((($(date +%s%N) - begin) / 1000000))
[ "$took" -lt 1000 ] || fail "delete took $took ms"
stat "$MNT/volumes/pvc-1" 2>/dev/null && fail "a deleted volume is still seen"
[ "$(cat <&7)" = 1 ] || fail "an open file went with its volume"
exec 7<&-
volume create "$META" pvc-1 --json >/dev/null || fail "the name is not free"
volume delete "$META" pvc-1 --json >/dev/null
"$MOORFS" fsck "$MNT" >/dev/null 2>&1 || fail "fsck finds damage while a tree is being removed"
for _ in $(seq 60); do
  [ "$("$MOORFS" quota list "$MNT" --json | grep -c '"removed":true')" = 0 ] && break
  sleep 1
done
[ "$("$MOORFS" quota list "$MNT" --json | grep -c '"removed":true')" = 0 ] || fail "a removed tree is never gone"
"$MOORFS" quota check "$MNT" >/dev/null 2>&1 || fail "quotas after a removal: $("$MOORFS" quota check "$MNT" 2>&1)"
[ "$("$MOORFS" trash list "$MNT" 2>/dev/null | wc -l)" = 0 ] || fail "a volume went to the trash"
umount_it
"$MOORFS" fsck "$META" >/dev/null 2>&1 || fail "fsck finds damage"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Commands on a volume answer alike whether it is mounted or not.
. "$(dirname "$0")/lib.sh"
start commands

for c in format mount umount status stats info trash "trash list" "trash restore" "trash empty" fsck gc dump load version; do
  # shellcheck disable=SC2086
  "$MOORFS" $c --help | grep >/dev/null Example: || fail "$c --help has no example"
done
"$MOORFS" version --json | json version >/dev/null || fail "version is no JSON"
refuses 'did you mean "mount"' "$MOORFS" muont

format --block-size 1MiB --compression lz4
mount_it
mkdir -p "$MNT/a/b"
head -c 5000000 /dev/urandom >"$MNT/a/b/big"
sync "$MNT/a/b/big"
echo tiny >"$MNT/a/tiny"

info=$("$MOORFS" info "$MNT/a/b/big" --json)
[ "$(json inode <<<"$info")" = "$(stat -c %i "$MNT/a/b/big")" ] || fail "info names another inode"
[ "$(json length <<<"$info")" = 5000000 ] || fail "info has another length"
object=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["objects"][0])' <<<"$info")
[ -f "$T/data/$object" ] || fail "the object that info names is not in the store"
"$MOORFS" info "$MNT/a/b/big" | grep >/dev/null "$object" || fail "info does not show the object"

"$MOORFS" fsck "$MNT" | grep >/dev/null "volume is clean" || fail "fsck of the mounted volume finds damage"
"$MOORFS" fsck "$META" | grep >/dev/null "volume is clean" || fail "fsck by META finds damage"
refuses "unmount it" "$MOORFS" fsck "$META" --repair
[ "$("$MOORFS" gc "$MNT" --json | tail -1 | json leaked)" = 0 ] || fail "gc finds unused objects"

# Trash: a name the kernel knows to be gone comes back at once.
rm -r "$MNT/a"
ls "$MNT/a" 2>/dev/null && fail "a is still there"
id=$("$MOORFS" trash list "$MNT" --json | python3 -c '
import json, sys
print([e["id"] for e in map(json.loads, sys.stdin) if e["name"] == "big"][0])')
"$MOORFS" trash list "$MNT" | grep >/dev/null big || fail "trash list lacks big"
"$MOORFS" trash restore "$MNT" "$id" >/dev/null
[ "$(stat -c %s "$MNT/a/b/big")" = 5000000 ] || fail "the restored file is not there"
refuses "number" "$MOORFS" trash restore "$MNT" nonsense

# Dump while mounted, with unstored data.
echo "not stored yet" >"$MNT/late"
"$MOORFS" dump "$META" "$T/one.dump" >/dev/null
umount_it
"$MOORFS" trash list "$META" | grep >/dev/null tiny || fail "trash list of the unmounted volume lacks tiny"
[ "$("$MOORFS" trash empty "$META" --json | json deleted)" -ge 1 ] || fail "the trash was not emptied"
"$MOORFS" fsck "$META" --repair | grep >/dev/null "volume is clean" || fail "fsck --repair of a clean volume"
"$MOORFS" info --meta "$META" /a/b/big --json | json length | grep >/dev/null -x 5000000 || fail "info of the unmounted volume"
"$MOORFS" dump "$META" - >"$T/two.dump"

# A damaged dump makes no volume; a whole one makes the same.
refuses "holds" "$MOORFS" load "$META" "$T/one.dump"
head -c $(($(stat -c %s "$T/one.dump") / 2)) "$T/one.dump" >"$T/cut.dump"
refuses "load" "$MOORFS" load "leveldb:$T/meta2" "$T/cut.dump"
"$MOORFS" load "leveldb:$T/meta2" "$T/one.dump" >/dev/null
"$MOORFS" mount "leveldb:$T/meta2" "$MNT" >/dev/null
[ "$(cat "$MNT/late")" = "not stored yet" ] || fail "the dump lacks what was only in memory"
[ "$(stat -c %s "$MNT/a/b/big")" = 5000000 ] || fail "the loaded volume lacks big"
cat "$MNT/a/b/big" >/dev/null || fail "the loaded volume's data is not read"
umount_it

# An object nobody knows is found and, once old enough, deleted.
uuid=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["objects"][0].split("/")[0])' <<<"$info")
stray=$T/data/$uuid/00000000deadbeef/0/7
mkdir -p "$(dirname "$stray")"
cp "$T/data/$object" "$stray"
[ "$("$MOORFS" gc "$META" --json | tail -1 | json young)" -ge 1 ] || fail "a young stray was judged"
touch -d '3 hours ago' "$stray"
[ "$("$MOORFS" gc "$META" --json | tail -1 | json leaked)" = 1 ] || fail "gc misses the stray object"
[ -f "$stray" ] || fail "gc without --delete deleted"
[ "$("$MOORFS" gc "$META" --delete --json | tail -1 | json deleted)" = 1 ] || fail "gc --delete did not"
[ -e "$stray" ] && fail "the stray object is still there"

# A lost object is damage that fsck sees.
rm "$T/data/$object"
refuses "damage was found" "$MOORFS" fsck "$META"

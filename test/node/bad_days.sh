#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Wrong input and wrong circumstances: each is refused with a message that
# names thing and remedy, and leaves nothing behind.
. "$(dirname "$0")/lib.sh"
start bad_days

nothing_left() {
  is_mounted && fail "something is mounted"
  [ -z "$(our_processes)" ] || fail "processes are left"
  [ -z "$(ls -d "$T"/run/*:* 2>/dev/null)" ] || fail "runtime files are left"
  return 0
}

# No volume yet.
refuses "moorfs format" "$MOORFS" mount "$META" "$MNT"
mkdir "$T/other"
echo mine >"$T/other/letter"
refuses "no volume" "$MOORFS" mount "leveldb:$T/other" "$MNT"
[ "$(ls "$T/other")" = letter ] || fail "a foreign directory was written to"
refuses "leveldb:DIR" "$MOORFS" mount "tikv:host" "$MNT"
refuses "leveldb:DIR" "$MOORFS" format "postgres://user:geheim@host/db" --store "$STORE"
out=$("$MOORFS" format "postgres://user:geheim@host/db" --store "$STORE" 2>&1 || true)
grep -q geheim <<<"$out" && fail "a password is shown"

# Format refuses what holds something else.
refuses "letter" "$MOORFS" format "leveldb:$T/other" --store "$STORE"
refuses "letter" "$MOORFS" format "$META" --store "file:$T/other"
refuses "power of two" "$MOORFS" format "$META" --store "$STORE" --block-size 5000
refuses "none, lz4, zstd" "$MOORFS" format "$META" --store "$STORE" --compression gzip
rm -rf "$T/meta" "$T/data"
format
refuses "holds volume vol" "$MOORFS" format "$META" --store "$STORE"
refuses "store of volume" "$MOORFS" format "leveldb:$T/meta3" --store "$STORE"
# A job that runs again finds the volume it would have made, or says what is there instead.
"$MOORFS" format "$META" --store "$STORE" --name vol --if-new | grep -q "is there already" || fail "--if-new minds the volume it asks for"
refuses "not volume other" "$MOORFS" format "$META" --store "$STORE" --name other --if-new
refuses "not volume vol with its data in file:$T/data9" "$MOORFS" format "$META" --store "file:$T/data9" --name vol --if-new
refuses "one gives up what the other keeps" "$MOORFS" format "$META" --store "$STORE" --name vol --if-new --force

# Options.
refuses 'did you mean "memory"' "$MOORFS" mount "$META" "$MNT" -o memroy=1G
refuses "nosuchthing" "$MOORFS" mount "$META" "$MNT" -o nosuchthing
refuses "16.0 MiB" "$MOORFS" mount "$META" "$MNT" -o memory=1M
refuses "needs a value" "$MOORFS" mount "$META" "$MNT" -o memory
refuses "seconds" "$MOORFS" mount "$META" "$MNT" -o abort_after=soon
refuses "no-such-user" "$MOORFS" mount "$META" "$MNT" -o client-user=no-such-user
refuses "subdir=/nowhere" "$MOORFS" mount "$META" "$MNT" -o subdir=/nowhere
nothing_left

# Mount points.
refuses "mkdir -p" "$MOORFS" mount "$META" "$T/absent"
touch "$T/plain"
refuses "no directory" "$MOORFS" mount "$META" "$T/plain"
mount -t tmpfs none "$MNT"
refuses "tmpfs" "$MOORFS" mount "$META" "$MNT"
umount "$MNT"
refuses "nothing is mounted" "$MOORFS" umount "$MNT"
refuses "there is none" "$MOORFS" status "$MNT"
touch "$MNT/hidden"
out=$("$MOORFS" mount "$META" "$MNT" 2>&1)
grep -q "1 entry is hidden" <<<"$out" || fail "no word about hidden files"

# A second mount, here and elsewhere.
refuses "moorfs umount $MNT" "$MOORFS" mount "$META" "$MNT"
mkdir "$T/mnt2"
refuses "mounted at $MNT (keeper pid $(status keeper_pid)" "$MOORFS" mount "$META" "$T/mnt2"
refuses "mounted at $MNT" "$MOORFS" format "$META" --store "$STORE" --force
# Also in the moment between two clients.
kill -KILL "$(status client_pid)"
refuses "mounted at $MNT" "$MOORFS" mount "$META" "$T/mnt2"
# Another volume at the same place.
"$MOORFS" format "leveldb:$T/meta4" --store "file:$T/data4" --name four >/dev/null
refuses "moorfs:vol is mounted there" "$MOORFS" mount "leveldb:$T/meta4" "$MNT"
umount_it
rm "$MNT/hidden"
nothing_left

# The store is gone, or somebody else's.
mv "$T/data" "$T/data.away"
refuses "$T/data" "$MOORFS" mount "$META" "$MNT"
mkdir "$T/data"
refuses "missing" "$MOORFS" mount "$META" "$MNT"
rmdir "$T/data"
mv "$T/data4" "$T/data"
refuses "belongs to volume" "$MOORFS" mount "$META" "$MNT"
mv "$T/data" "$T/data4"
mv "$T/data.away" "$T/data"
nothing_left

# A newer format.
"$EDIT_FORMAT" "leveldb:$T/meta4" incompat 8
refuses "feature bit 3" "$MOORFS" mount "leveldb:$T/meta4" "$MNT"
"$EDIT_FORMAT" "leveldb:$T/meta4" incompat 0
"$EDIT_FORMAT" "leveldb:$T/meta4" version 99
refuses "version 99" "$MOORFS" mount "leveldb:$T/meta4" "$MNT"
"$EDIT_FORMAT" "leveldb:$T/meta4" version 1
"$EDIT_FORMAT" "leveldb:$T/meta4" ro_compat 2
refuses "read-only" "$MOORFS" mount "leveldb:$T/meta4" "$MNT"
"$MOORFS" mount "leveldb:$T/meta4" "$MNT" --read-only >/dev/null || fail "it cannot be mounted read-only either"
umount_it
nothing_left

# A volume given up on purpose.
"$MOORFS" format "$META" --store "$STORE" --force --name fresh 2>/dev/null >/dev/null
mount_it
[ "$(status volume)" = fresh ] || fail "the new volume is not there"
umount_it

# Someone without privilege.
chmod 755 "$T"
if out=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$MOORFS" mount "$META" "$MNT" 2>&1); then
  fail "nobody could mount"
fi

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Trouble below a volume: a full store, a read-only one, a damaged block, a
# metadata log that was cut or damaged.
. "$(dirname "$0")/lib.sh"
start trouble

mkdir "$T/disk"
mount -t tmpfs -o size=8m none "$T/disk"
STORE=file:$T/disk/data
format

# Full: the error arrives, nothing that was stored is torn, and room is enough
# to go on.
mount_it
head -c 3000000 /dev/urandom >"$MNT/first"
sync "$MNT/first"
sum=$(md5sum <"$MNT/first")
out=$(dd if=/dev/urandom of="$MNT/second" bs=1M count=20 conv=fsync 2>&1) && fail "20 MiB fit into 8"
case $out in *"No space left"*) ;; *) fail "another error than ENOSPC: $out" ;; esac
[ "$(md5sum <"$MNT/first")" = "$sum" ] || fail "a full store tore an older file"
df "$MNT" >/dev/null || fail "df fails on a full store"
mount -o remount,size=200m "$T/disk"
dd if=/dev/urandom of="$MNT/third" bs=1M count=20 conv=fsync 2>/dev/null || fail "it does not recover when space returns"
umount_it
"$MOORFS" fsck "$META" >/dev/null || fail "fsck finds damage after a full store"

# Read-only: fsync fails, reads go on; later it is stored.
mount_it
mount -o remount,ro "$T/disk"
echo waits >"$MNT/waits"
head -c 1000000 /dev/urandom >"$MNT/waits2"
sync "$MNT/waits2" 2>/dev/null && fail "fsync succeeded on a read-only store"
[ "$(md5sum <"$MNT/first")" = "$sum" ] || fail "a read-only store is not read"
mount -o remount,rw "$T/disk"
sync "$MNT/waits2" || fail "fsync fails although the store is writable again"
umount_it

# A damaged block: an error for that range, never zeros; one line that names
# the object.
mount_it
object=$("$MOORFS" info "$MNT/first" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["objects"][0])')
umount_it
size=$(stat -c %s "$T/disk/data/$object")
cp "$T/disk/data/$object" "$T/intact"
printf '\xff\xfe\xfd' | dd of="$T/disk/data/$object" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
cmp -s "$T/intact" "$T/disk/data/$object" && fail "the block is not damaged"
mount_it
for _ in 1 2; do
  out=$(cat "$MNT/first" 2>&1 >/dev/null) && fail "a damaged block was read"
  case $out in *"Input/output error"*) ;; *) fail "another error than EIO: $out" ;; esac
done
head -c 4096 "$MNT/third" >/dev/null || fail "an undamaged file is not read"
found=$(grep -c " chunk: .*$object" "$T/run/vol.log")
[ "$found" = 1 ] || fail "the damage is logged $found times"
[ "$(status damaged_blocks)" -ge 1 ] || fail "status counts no damaged block"
umount_it
cp "$T/intact" "$T/disk/data/$object"
mount_it
[ "$(md5sum <"$MNT/first")" = "$sum" ] || fail "the restored block is not read"

# The metadata log, cut inside what was durable, or damaged: refused, with a
# remedy, before anything is lost for good.
for i in $(seq 50); do echo "$i" >"$MNT/n$i"; done
sync "$MNT/n20"
umount_it
log=$(find "$T/meta" -name '*.log' -size +0 | sort | tail -n 1)
[ -n "$log" ] || fail "there is no metadata log"
cp -a "$T/meta" "$T/meta.copy"
truncate -s -3 "$log"
refuses "backup" "$MOORFS" mount "$META" "$MNT"
is_mounted && fail "an engine with a cut log was mounted"
rm -r "$T/meta"
cp -a "$T/meta.copy" "$T/meta"
dd if=/dev/urandom of="$log" bs=1 seek=$(($(stat -c %s "$log") / 3)) count=40 conv=notrunc 2>/dev/null
refuses "backup" "$MOORFS" mount "$META" "$MNT"
is_mounted && fail "a damaged engine was mounted"
rm -r "$T/meta"
cp -a "$T/meta.copy" "$T/meta"

# Cut in the part that nobody synced, as a power failure does: it mounts, and
# what was fsynced is there. The client syncs every few seconds by itself; a
# try that it happened in is no such cut.
gone() { [ -z "$(our_processes)" ]; }
cut_unsynced_tail() {
  mount_it
  echo synced >"$MNT/synced.$1"
  sync "$MNT/synced.$1"
  for i in $(seq 20); do echo "$i" >"$MNT/unsynced.$1.$i"; done
  local client
  client=$(status client_pid)
  kill -KILL "$(status keeper_pid)"
  kill -KILL "$client"
  wait_until 10 gone
  umount -i -l "$MNT"
  log=$(find "$T/meta" -name '*.log' -size +0 | sort | tail -n 1)
  truncate -s -3 "$log"
  mount_it 2>/dev/null
}
mounted=
for try in 1 2 3 4 5; do
  if cut_unsynced_tail $try; then mounted=$try && break; fi
  rm -r "$T/meta"
  cp -a "$T/meta.copy" "$T/meta"
done
[ -n "$mounted" ] || fail "a log that lacks unsynced bytes cannot be mounted"
[ "$(cat "$MNT/synced.$mounted")" = synced ] || fail "what was fsynced is lost"
[ "$(cat "$MNT/n20")" = 20 ] || fail "what was there before is lost"
umount_it
"$MOORFS" fsck "$META" >/dev/null || fail "fsck finds damage after a cut log"

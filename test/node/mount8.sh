#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# mount(8), fstab and umount(8) through the helpers in /sbin. They are put
# there in a mount namespace of this test's own.
. "$(dirname "$0")/lib.sh"
if [ -z "${IN_NAMESPACE:-}" ]; then
  IN_NAMESPACE=1 exec unshare --mount --propagation private "$0"
fi
start mount8

mkdir "$T/sbin"
sbin=$(readlink -f /sbin)
mkdir "$T/upper" "$T/work"
if ! mount -t overlay overlay -o "lowerdir=$sbin,upperdir=$T/upper,workdir=$T/work" "$sbin" 2>/dev/null; then
  # No overlay file system here: a copy of the directory's links will do.
  cp -a "$sbin/." "$T/sbin/"
  mount --bind "$T/sbin" "$sbin"
fi
for name in mount.moorfs umount.moorfs umount.fuse.moorfs mount.fuse.moorfs; do
  ln -sf "$(readlink -f "$MOORFS")" "$sbin/$name"
done
gone() { [ -z "$(our_processes)" ]; }

format
mount -t moorfs "$META" "$MNT" -o nosuid,nodev,memory=64MiB,noauto,_netdev
findmnt -no OPTIONS "$MNT" | grep >/dev/null nosuid || fail "nosuid did not arrive"
findmnt -no OPTIONS "$MNT" | grep >/dev/null nodev || fail "nodev did not arrive"
[ "$(status dirty_budget_bytes)" = $((32 << 20)) ] || fail "memory=64MiB did not arrive"
head -c 1000000 /dev/urandom >"$MNT/file"
sum=$(md5sum <"$MNT/file")
umount "$MNT"
gone || fail "umount(8) returned before everything was stored"
refuses 'did you mean "memory"' mount -t moorfs "$META" "$MNT" -o memroy=64MiB

echo "$META $MNT moorfs ro,nofail,x-systemd.automount 0 0" >"$T/fstab"
mount -T "$T/fstab" "$MNT"
findmnt -no OPTIONS "$MNT" | grep >/dev/null -w ro || fail "ro of fstab did not arrive"
[ "$(md5sum <"$MNT/file")" = "$sum" ] || fail "data is lost"
# `mount -a` of what is mounted is no error.
mount -T "$T/fstab" -a || fail "mount -a fails for a mounted volume"
refuses "in use" sh -c "cd '$MNT' && umount '$MNT'"
umount "$MNT"
gone || fail "processes are left"
refuses "No such file or directory" mount -t moorfs "leveldb:$T/nowhere/x" "$MNT"
# The overlay goes with the namespace.

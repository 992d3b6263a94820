#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The keeper is killed: the client serves on, the volume stays locked, status
# says so, and umount ends it in order. With both dead, umount cleans up.
. "$(dirname "$0")/lib.sh"
start keeper_death

format
gone() { [ -z "$(our_processes)" ]; }
mount_it
client=$(status client_pid)
kill -KILL "$(status keeper_pid)"
echo served >"$MNT/file"
[ "$(cat "$MNT/file")" = served ] || fail "the client does not serve without its keeper"
[ "$(status state)" = "keeper gone" ] || fail "state is $(status state)"
[ "$(status client_pid)" = "$client" ] || fail "status has another client"
mkdir "$T/mnt2"
refuses "mounted at $MNT" "$MOORFS" mount "$META" "$T/mnt2"
umount_it 2>/dev/null
is_mounted && fail "still mounted"
wait_until 10 gone || fail "the client does not end"
[ -z "$(ls -d "$T"/run/*:* 2>/dev/null)" ] || fail "runtime files are left"
mount_it
[ "$(cat "$MNT/file")" = served ] || fail "data is lost"

# Both: the mount is dead, says so, and can be removed and made again.
keeper=$(status keeper_pid)
client=$(status client_pid)
echo unstored >"$MNT/last"
sync "$MNT/last"
kill -KILL "$keeper"
kill -KILL "$client"
wait_until 10 gone
[ "$(status state)" = dead ] || fail "state is $(status state)"
refuses "moorfs umount $MNT" "$MOORFS" mount "$META" "$MNT"
umount_it 2>/dev/null
is_mounted && fail "the dead mount is still there"
mount_it
[ "$(cat "$MNT/last")" = unstored ] || fail "what was fsynced is lost"
umount_it
"$MOORFS" fsck "$META" >/dev/null || fail "fsck finds damage"

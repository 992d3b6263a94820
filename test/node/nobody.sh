#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The client serves as nobody, without any capability, whoever uses the mount.
. "$(dirname "$0")/lib.sh"
start nobody

format
chown -R nobody: "$T/meta" "$T/data"
# Only the lock is the keeper's.
mount_it -o client-user=nobody
client=$(status client_pid)
grep -q "^Uid:.65534.65534.65534.65534" "/proc/$client/status" || fail "the client runs as somebody else"
for set in CapPrm CapEff CapInh CapAmb; do
  grep -q "^$set:.0000000000000000" "/proc/$client/status" || fail "the client has capabilities in $set"
done
grep -q "^NoNewPrivs:.1" "/proc/$client/status" || fail "the client could gain privileges"

# Root's files are root's, as on any file system.
echo secret >"$MNT/root-only"
chmod 600 "$MNT/root-only"
mkdir "$MNT/pub"
chmod 1777 "$MNT/pub"
mknod "$MNT/null" c 1 3
chown 12:34 "$MNT/pub"
[ "$(stat -c %u:%g "$MNT/pub")" = 12:34 ] || fail "chown did not arrive"
setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "cat '$MNT/root-only'" 2>/dev/null && fail "nobody reads root's file"
setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "echo x >'$MNT/pub/mine'" || fail "nobody cannot write to a public directory"
[ "$(stat -c %u "$MNT/pub/mine")" = 65534 ] || fail "the file belongs to somebody else"

kill -KILL "$client"
[ "$(cat "$MNT/root-only")" = secret ] || fail "the successor does not serve"
grep -q "^Uid:.65534" "/proc/$(status client_pid)/status" || fail "the successor runs as somebody else"
umount_it
mount_it -o client-user=nobody
[ "$(cat "$MNT/root-only")" = secret ] || fail "data is lost"
umount_it

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# No client can start: applications wait, and after --abort-after get an error
# instead of waiting for ever. What they had written is stored later.
. "$(dirname "$0")/lib.sh"
start abort

format
mount_it --abort-after 3
head -c 500000 /dev/urandom >"$MNT/before"
sum=$(md5sum <"$MNT/before")
mv "$T/data" "$T/data.away"
kill -KILL "$(status client_pid)"
began=$(date +%s%N)
ls "$MNT" >/dev/null 2>&1 && fail "ls succeeded without a client"
waited=$((($(date +%s%N) - began) / 1000000))
[ $waited -ge 1500 ] && [ $waited -le 15000 ] || fail "ls failed after $waited ms"
[ "$("$MOORFS" status "$MNT" --json | json state)" = aborted ] || fail "state is not aborted"
"$MOORFS" status "$MNT" --json | json last_error | grep >/dev/null "$T/data" || fail "status does not say what is wrong"
touch "$MNT/x" 2>/dev/null && fail "a write went through a dead mount"
[ -z "$(umount -i -l "$MNT" && ls -A "$MNT")" ] || fail "something landed below the mount point"

# The store is back: the data that waited in memory is stored.
mv "$T/data.away" "$T/data"
gone() { [ -z "$(our_processes)" ]; }
wait_until 20 gone || fail "the keeper does not finish"
mount_it
[ "$(md5sum <"$MNT/before")" = "$sum" ] || fail "data is lost"

# The store is only away for a moment: nobody gets an error.
mv "$T/data" "$T/data.away"
kill -KILL "$(status client_pid)"
(sleep 1; mv "$T/data.away" "$T/data") &
ls "$MNT" >/dev/null || fail "a short outage became an error"
wait
umount_it

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# SIGKILL of the client, again and again, under load: applications notice
# nothing but a short wait.
. "$(dirname "$0")/lib.sh"
start client_death

format
mount_it
loads=()
for i in 1 2; do
  python3 "$(dirname "$0")/load.py" "$MNT" "$i" 15 >"$T/out.$i" 2>&1 &
  PIDS+=($!)
  loads+=($!)
done
kills=0
serving() { [ "$(status state)" = serving ] && [ "$(status client_pid)" != "$1" ]; }
while [ $kills -lt 20 ]; do
  pid=$(status client_pid)
  is_ours "$pid" || fail "client_pid $pid is not the client"
  kill -KILL "$pid"
  kills=$((kills + 1))
  wait_until 10 serving "$pid" || fail "no successor after kill $kills"
  sleep 0.2
done
for l in "${loads[@]}"; do wait "$l" || fail "the load failed: $(cat "$T"/out.*)"; done
cat "$T"/out.*
[ "$(status restarts)" -ge 20 ] || fail "status counts $(status restarts) restarts"
umount_it
"$MOORFS" fsck "$META" >/dev/null || fail "fsck finds damage after $kills kills"

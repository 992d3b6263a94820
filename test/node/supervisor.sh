#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A mount pod without a cluster: PID 1 with no privilege serves a real mount
# that it could not have made. Its client is killed, it is killed itself, it
# hands over to another pod, again and again under load: applications notice
# nothing but a short wait.
. "$(dirname "$0")/lib.sh"
start supervisor
. "$(dirname "$0")/pod_lib.sh"

format_for_pods
start_pod p0
start_driver
tell mount "$MNT" >/dev/null
[ "$(tell connect p0 "$T/p0" $POD_UID)" = idle ] || fail "a new supervisor is not idle"
told_off ENOENT fetch p0

# What cannot be served is refused, and the supervisor can be asked again.
told_off ENOENT serve p0 "leveldb:$T/nothing"
told_off EINVAL serve p0 "$VOLUME" no-such-option=1
[ "$(pod_state p0 phase)" = idle ] || fail "a refusal changed its state"
tell uuid 00000000-0000-0000-0000-000000000001 >/dev/null
tell serve p0 "$VOLUME" memory=64MiB >/dev/null
tell wait p0 failed 20 >/dev/null
pod_state p0 last_error | grep >/dev/null "put that one back" || fail "it does not say that this is another volume"
tell forget-arena >/dev/null

[ "$(tell serve p0 "$VOLUME" memory=64MiB)" = new ] || fail "it was no new mount"
tell wait p0 serving 20 >/dev/null
told_off EALREADY serve p0 "$VOLUME"
refuses "served by mount pod p0 on host test-node" "$MOORFS" fsck "$VOLUME"
nsenter --target "$(pid1_of p0)" --uts "$MOORFS" fsck "$VOLUME" >/dev/null || fail "no command reaches the client inside the pod"
for set in CapPrm CapEff CapInh CapBnd CapAmb; do
  for p in $(pid1_of p0) $(client_of p0); do
    grep -q "^$set:.0000000000000000" "/proc/$p/status" || fail "$p has capabilities in $set"
  done
done
echo first >"$MNT/first"
tell ask "$T/p0" status | grep >/dev/null dirty_bytes || fail "the client's own socket does not answer"

chmod 755 "$T/p0"
nobody_hears "$T/p0/supervisor.sock"
nobody_hears "$T/p0/client.sock"

# Another supervisor of the same volume waits for the lock, then says who has it.
start_pod other
tell connect other "$T/other" $POD_UID >/dev/null
tell timeouts 1 60 >/dev/null
tell serve other "$VOLUME" >/dev/null
tell wait other failed 20 >/dev/null
pod_state other last_error | grep >/dev/null "served by mount pod p0" || fail "it does not say who serves the volume"
kill -TERM "$(pid1_of other)"
pod_ends other || fail "a failed supervisor does not end on SIGTERM"

# Orphans are reaped; SIGTERM does not take the mount away from applications.
nsenter --target "$(pid1_of p0)" --pid sh -c '(sleep 0.1 &)'
kill -TERM "$(pid1_of p0)"
sleep 0.4
[ -z "$(ps -o stat= --ppid "$(pid1_of p0)" | grep Z || true)" ] || fail "PID 1 leaves a zombie"
[ "$(cat "$MNT/first")" = first ] || fail "SIGTERM ended the mount"
[ "$(pod_state p0 sigterm)" = True ] || fail "nobody is told that the pod shall go"

# ---- the client dies ----------------------------------------------------------
start_loads kills
kills=0
while [ $kills -lt "${KILLS:-50}" ]; do
  pid=$(client_of p0)
  is_ours "$pid" || fail "$pid is not the client"
  kill -KILL "$pid"
  kills=$((kills + 1))
  tell wait p0 serving 10 $kills >/dev/null
  sleep 0.1
done
pod_state p0 last_exit | grep >/dev/null "signal 9" || fail "it does not say how the client ended"
end_loads kills
echo "after a kill nobody served for $(grep -o 'serves after [0-9]* ms' "$T/run/p0.log" | grep -o '[0-9]*' | sort -n | tail -1) ms at most"

# ---- PID 1 dies, and everything in its pod --------------------------------------
[ -n "$(tell fetch p0)" ] || fail "no volume came with the descriptors"
start_loads death
for i in 1 2 3; do
  n=$((i - 1))
  pod=p$n
  [ $n = 0 ] || pod=d$n
  sleep 0.5
  kill -KILL "$(pid1_of $pod)"
  start_pod "d$i"
  tell connect "d$i" "$T/d$i" $POD_UID >/dev/null
  [ "$(tell serve "d$i" "$VOLUME" memory=64MiB)" = "taken over" ] || fail "it was a new mount"
  tell wait "d$i" serving 20 >/dev/null
done
end_loads death

# ---- another pod takes over ------------------------------------------------------
start_loads handover
last=d3
for i in $(seq "${HANDOVERS:-20}"); do
  start_pod "s$i"
  tell connect "s$i" "$T/s$i" $POD_UID >/dev/null
  tell fetch "$last" >/dev/null
  tell step-aside "$last" >/dev/null
  tell serve "s$i" "$VOLUME" memory=64MiB >/dev/null
  tell wait "s$i" serving 20 >/dev/null
  pod_ends "$last" || fail "$last did not end well"
  last=s$i
  sleep 0.1
done
end_loads handover
[ "$(cat "$MNT/first")" = first ] || fail "a file is gone"

# A successor serves no other volume.
tell fetch "$last" >/dev/null
tell step-aside "$last" >/dev/null
mv "$T/vol/meta" "$T/vol/meta.away"
"$MOORFS" format "$VOLUME" --store "file:$T/vol/data2" --name other >/dev/null
chown -R $POD_UID:$POD_UID "$T/vol"
start_pod wrong
tell connect wrong "$T/wrong" $POD_UID >/dev/null
tell serve wrong "$VOLUME" memory=64MiB >/dev/null
tell wait wrong restarting 20 >/dev/null
says() { pod_state "$1" last_error | grep >/dev/null "$2"; }
wait_until 10 says wrong "put that one back" || fail "it does not say that this is another volume"
mv "$T/vol/meta" "$T/vol/meta.other"
mv "$T/vol/meta.away" "$T/vol/meta"
tell step-aside wrong >/dev/null

# ---- nobody can serve ------------------------------------------------------------
start_pod last
tell connect last "$T/last" $POD_UID >/dev/null
tell timeouts 20 2 >/dev/null
tell serve last "$VOLUME" memory=64MiB >/dev/null
tell wait last serving 20 >/dev/null
head -c 500000 /dev/urandom >"$MNT/before"
sum=$(md5sum <"$MNT/before")
mv "$T/vol/data" "$T/vol/data.away"
kill -KILL "$(client_of last)"
wait_until 20 says last "no client serves mount-1" || fail "it does not say that nobody serves: $(tell state last)"
[ "$(pod_state last phase)" = restarting ] || fail "it gave the mount up"
tell abort >/dev/null
ls "$MNT" >/dev/null 2>&1 && fail "ls succeeded on an aborted connection"
mv "$T/vol/data.away" "$T/vol/data"
tell wait last finished 30 >/dev/null
[ -z "$(client_of last)" ] || fail "a client is left"
tell umount lazy >/dev/null
kill -TERM "$(pid1_of last)"
pod_ends last || fail "a finished supervisor does not end on SIGTERM"

# ---- what was written is there -----------------------------------------------------
chown -R 0:0 "$T/vol"
"$MOORFS" fsck "$VOLUME" >/dev/null || fail "fsck finds damage"
META=$VOLUME
mount_it
[ "$(md5sum <"$MNT/before")" = "$sum" ] || fail "data is lost"
[ "$(cat "$MNT/first")" = first ] || fail "data is lost"
umount_it

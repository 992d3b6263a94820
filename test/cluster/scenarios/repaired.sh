# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What happens to a mount pod, or keeps it from coming up: what the application sees,
# in figures, and what the events say. Nobody repairs anything by hand.

# healed WHAT WRITER: what it saw since the last mark; then it must work undisturbed.
# $ERRORS_ALLOWED: such an end costs the application errors.
healed() {
  local errors
  mark "$2" 120
  errors=$(mark_field errors)
  [ "$(mark_field wrong_bytes)" = 0 ] || die "$1: wrong bytes: $MARK"
  if [ "$errors" = 0 ]; then
    did "$1: the application saw 0 errors, longest stall $(mark_field longest_stall_ms) ms"
  else
    did "$1: the application saw $errors errors within $(mark_field outage_ms) ms $(mark_field causes), longest stall $(mark_field longest_stall_ms) ms"
    [ -n "${ERRORS_ALLOWED:-}" ] || die "$1 is not to cost an application errors"
  fi
  settle 2
  mark "$2"
  [ "$(mark_field errors)" = 0 ] && [ "$(mark_field operations)" -gt 0 ] || die "$1: not repaired: $MARK"
  STEP_START=$EPOCHREALTIME
}
# The one mount pod that is not going away, with a client that serves.
serving_pod() {
  kubectl -n "$MOUNTS" get pods -l "$MOUNT_LABEL" -o json | python3 -c 'import json, sys
for pod in json.load(sys.stdin)["items"]:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    if ready and "deletionTimestamp" not in pod["metadata"]: print(pod["metadata"]["name"])'
}
another_serves() { local now; now=$(serving_pod); [ -n "$now" ] && [ "$now" != "$1" ] && [ "$(wc -w <<<"$now")" = 1 ]; }
gone() { ! exists -n "$MOUNTS" pod "$1"; }
print_events() { # SINCE_LINES: the events of the mount pods' namespace that say more than kubelet's usual
  mount_events | grep -v -E ' (Scheduled|Pulled|Created|Started|Killing|SuccessfulCreate|Completed) ' | tail -n "${1:-3}" | cut -c1-300 | sed 's/^/    /'
}

pod_replaced() { # WHAT KUBECTL_DELETE_OPTION...
  local old what=$1
  shift
  old=$(serving_pod)
  kubectl -n "$MOUNTS" delete pod "$old" --wait=false "$@" >/dev/null 2>&1
  eventually 90 "another mount pod serves" another_serves "$old"
  eventually 60 "the old mount pod is gone" gone "$old"
  expect 1 1 "$what"
  healed "$what" app
}

eviction_refused() {
  local name
  name=$(serving_pod)
  printf '{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "%s", "namespace": "%s"}}' "$name" "$MOUNTS" |
    kubectl create --raw "/api/v1/namespaces/$MOUNTS/pods/$name/eviction" -f - >"$WORK/log/evict.log" 2>&1 && die "a mount pod was evicted"
  grep -q 'disruption budget' "$WORK/log/evict.log" || die "refused for another reason: $(cat "$WORK/log/evict.log")"
  healed "eviction asked for, refused by the budget" app
}
# kubelet ended it for want of something: the pod stays, Failed.
pod_failed() {
  local old
  old=$(serving_pod)
  kubectl -n "$MOUNTS" patch pod "$old" --subresource=status --type=merge \
    -p '{"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}}' >/dev/null
  eventually 90 "another mount pod serves" another_serves "$old"
  eventually 60 "the failed mount pod is gone" gone "$old"
  expect 1 1 "pod Failed"
  healed "mount pod evicted by kubelet (Failed)" app
  print_events 2
}

client_killed() {
  kill -9 "$(role_pids client)"
  settle
  expect 1 1 "client killed"
  healed "client SIGKILLed" app
}
first_process_killed() {
  local pid
  pid=$(role_pids supervise)
  kill -9 "$pid"
  eventually 90 "a mount pod serves" serves_again "$pid"
  expect 1 1 "PID 1 killed"
  healed "PID 1 of the mount pod SIGKILLed" app
}
serves_again() { local now; now=$(role_pids supervise); [ -n "$now" ] && [ "$now" != "$1" ] && [ "$(serving_pod | wc -w)" = 1 ]; }

# Something else eats the container's memory; the kernel's choice is our process.
memory_group() { # PID: on cgroup v1 and v2
  awk -F: '$2 ~ /(^|,)memory(,|$)/ || $1 == "0" { print $3; exit }' "/proc/$1/cgroup" |
    { read -r group; for each in /sys/fs/cgroup/memory /sys/fs/cgroup; do [ -d "$each$group" ] && [ "$group" != / ] && printf '%s\n' "$each$group" && break; done; }
}
out_of_memory() { # ROLE
  local pid group hog
  pid=$(role_pids "$1")
  group=$(memory_group "$pid")
  [ -n "$group" ] || die "no memory control group of process $pid"
  echo 1000 >"/proc/$pid/oom_score_adj"
  # shellcheck disable=SC2016
  bash -c 'echo $$ >"$0/cgroup.procs" && exec python3 -c "
import time
held = []
while True: held.append(bytearray(8 << 20)); time.sleep(0.01)"' "$group" >/dev/null 2>&1 &
  hog=$!
  disown
  eventually 60 "the kernel kills a process that the memory's end blames" ended "$pid"
  kill -9 "$hog" 2>/dev/null || true
  if [ "$1" = supervise ]; then
    eventually 90 "a mount pod serves" serves_again "$pid"
  fi
  settle
  expect 1 1 "out of memory"
  healed "out of memory, the kernel killed the $1" app
}
ended() { [ ! -e "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status"; }

# ---- what keeps a mount pod from coming up -------------------------------------------
# configure PYTHON: changes config.json ("c") in the ConfigMap; agents are restarted as documented.
configure() {
  kubectl -n "$SYSTEM" get configmap moorfs -o 'jsonpath={.data.config\.json}' |
    python3 -c "import json, sys
c = json.load(sys.stdin)
$1
json.dump(c, open('$WORK/config.json', 'w'), indent=1)"
  kubectl -n "$SYSTEM" create configmap moorfs --from-file=config.json="$WORK/config.json" --dry-run=client -o yaml |
    kubectl apply -f - >/dev/null 2>&1
  kubectl -n "$SYSTEM" rollout restart daemonset/moorfs-node >/dev/null
  rolled_out daemonset/moorfs-node
}
good_image() { configure "c['mountPods']['image'] = '$IMAGE'"; }
app_event() { event_of default "$1" | grep -v -E '^(Scheduled|Pulled|Created|Started)' | tail -n 1; }
says() { app_event "$1" | grep -q -i -- "$2"; }

image_missing_for_new_volume() {
  configure "c['mountPods']['image'] = 'moorfs.io/moorfs:none'"
  STEP_START=$EPOCHREALTIME
  make_pod waits "$STATIC_VOLUME"
  eventually 90 "the application's event says what is wrong" says waits 'image'
  did "image of mount pods missing: the application waits, its event says so"
  say "    $(app_event waits | cut -c1-400)"
  print_events 2
  good_image
  STEP_START=$EPOCHREALTIME
  wait_ready 180 waits
  expect 1 1 "the image is there"
  did "with the right image in config.json the waiting pod comes up"
  delete_pods waits
  expect 0 0 "no pod"
}
image_missing_for_successor() {
  local old
  configure "c['mountPods']['image'] = 'moorfs.io/moorfs:none'"
  old=$(serving_pod)
  STEP_START=$EPOCHREALTIME
  mark app
  kubectl -n "$MOUNTS" delete pod "$old" --wait=false >/dev/null
  settle 10
  print_events 2
  good_image
  eventually 120 "another mount pod serves" another_serves "$old"
  eventually 60 "the old mount pod is gone" gone "$old"
  expect 1 1 "the successor serves"
  healed "mount pod deleted while its successor's image is missing for 10 s and more" app
}
claim_missing() {
  configure "c['fileSystems']['lost'] = {'meta': 'leveldb:/volumes/lost/meta', 'openToPods': True}"
  STEP_START=$EPOCHREALTIME
  make_pod waits 'flexVolume: {driver: moorfs.io/moorfs-flex, options: {fs: lost}}'
  eventually 90 "the application's event says what is wrong" says waits 'lost'
  did "claim of mount pods missing: the application waits, its event says so"
  say "    $(app_event waits | cut -c1-400)"
  print_events 2
  local_volume lost
  format_volume lost
  wait_ready 180 waits
  did "once the claim exists and holds a volume, the waiting pod comes up"
  delete_pods waits
}
node_unschedulable() {
  kubectl cordon "$NODE" >/dev/null
  kubectl -n "$MOUNTS" delete pod "$(serving_pod)" --wait=false >/dev/null
  settle 2
  eventually 90 "a mount pod serves" one_serves
  expect 1 1 "node cordoned"
  kubectl uncordon "$NODE" >/dev/null
  healed "mount pod deleted on a cordoned node" app
}
one_serves() { [ "$(serving_pod | wc -w)" = 1 ] && [ "$(mount_pods | wc -l)" = 1 ]; }

deleted_by_hand() { pod_replaced "mount pod deleted by hand" && print_events 2; }
force_deleted() { pod_replaced "mount pod force-deleted" --force --grace-period=0; }
client_out_of_memory() { out_of_memory client; }
first_process_out_of_memory() { out_of_memory supervise && print_events 2; }

# REPAIRS="…" runs some of them alone.
repaired() {
  local each
  start_writer app "$STATIC_VOLUME"
  expect 1 1 "one writer"
  mark app
  STEP_START=$EPOCHREALTIME
  for each in ${REPAIRS:-client_killed deleted_by_hand force_deleted eviction_refused pod_failed first_process_killed \
    client_out_of_memory first_process_out_of_memory node_unschedulable image_missing_for_successor}; do
    "$each"
  done
  end_writer app
  delete_pods app
  expect 0 0 "the writer is gone"
  [ -z "${REPAIRS:-}" ] || return 0
  image_missing_for_new_volume
  claim_missing
}

# The drain of the documentation: applications leave, their mount pods after them.
drained() {
  local line
  line=$(sed -n 's/^ *\(kubectl drain .*\)$/\1/p' "$TOP"/docs/*.md | head -n 1)
  [ -n "$line" ] || { say "  (no kubectl drain line in docs/)"; line="kubectl drain NODE --ignore-daemonsets --delete-emptydir-data --pod-selector=app.kubernetes.io/name!=moorfs-mount"; }
  start_writer app "$STATIC_VOLUME"
  expect 1 1 "one writer"
  # shellcheck disable=SC2001
  line=$(sed "s/NODE\b/$NODE/g; s/\$NODE/$NODE/g; s/worker-1/$NODE/g" <<<"$line")
  STEP_START=$EPOCHREALTIME
  # Its log goes with it.
  kubectl logs -f app >"$WORK/log/drained.log" 2>&1 &
  # The writer has no controller; a drain wants that said.
  $line --force --timeout=90s >"$WORK/log/drain.log" 2>&1 || die "$line: $(tail -n 5 "$WORK/log/drain.log")"
  eventually 10 "the drained application has said its last" grep -q '"total"' "$WORK/log/drained.log"
  grep '"total"' "$WORK/log/drained.log" | grep -q '"errors": 0, ' || die "the drained application saw errors: $(tail -n 2 "$WORK/log/drained.log")"
  expect 0 0 "the node is drained"
  did "$line: done, the application ended first and saw no error"
  kubectl uncordon "$NODE" >/dev/null
  timed_pod back "$STATIC_VOLUME"
  expect 1 1 "the node is back"
  delete_pods back
  expect 0 0 "no pod"
  did "and back"
}

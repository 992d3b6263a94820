# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Who shares a mount pod, how long a pod waits for it, what the API server is asked,
# and what a mount pod is allowed to be.

DYNAMIC_VOLUME=$(claim_volume dynamic)
STATIC_VOLUME=$(claim_volume shared)

dynamic_claim() { # NAME SIZE
  printf '%s\n' 'apiVersion: v1' 'kind: PersistentVolumeClaim' "metadata: {name: $1}" \
    "spec: {accessModes: [ReadWriteMany], storageClassName: moorfs, resources: {requests: {storage: $2}}}" | kubectl apply -f - >/dev/null
  bound "$1"
}
only_mount_pod_uid() { mount_pod_field .metadata.uid; }

sharing() {
  local begun=$EPOCHREALTIME uid volume
  dynamic_claim dynamic 64Mi
  did "a claim is Bound through the external-provisioner, no client served before"
  timed_pod first "$STATIC_VOLUME"
  expect 1 1 "one pod with the static claim"
  uid=$(only_mount_pod_uid)
  did "first pod Ready after $TOOK s, with a new mount pod"
  timed_pod second "$STATIC_VOLUME"
  expect 1 2 "two pods with the static claim"
  writes first hello
  reads second hello
  did "second pod Ready after $TOOK s, they share"
  kubectl -n "$MOUNTS" get pod "$(mount_pods)" -o json | python3 -c 'import json, sys
annotations = json.load(sys.stdin)["metadata"]["annotations"]
for name in sorted(annotations):
    if name.startswith("moorfs.io/ref-"): print("    " + name + ": " + annotations[name])'
  timed_pod third "$DYNAMIC_VOLUME"
  expect 1 3 "a pod with the dynamic claim joins"
  [ -z "$(run_in third 'ls /data')" ] || die "the dynamic claim shows: $(run_in third 'ls /data')"
  run_in third 'dd if=/dev/zero of=/data/big bs=1M count=80' >"$WORK/log/quota.log" 2>&1 && die "80 MiB fit into a claim of 64 MiB"
  grep -q 'Disk quota exceeded' "$WORK/log/quota.log" || die "another error than EDQUOT: $(cat "$WORK/log/quota.log")"
  timed_pod fourth "$FLEX_VOLUME"
  expect 1 4 "a pod with a FlexVolume joins"
  reads fourth hello
  [ "$(only_mount_pod_uid)" = "$uid" ] || die "another mount pod than the first"
  did "a dynamic claim's pod and a FlexVolume's pod join the same mount pod"
  delete_pods first second third fourth
  expect 0 0 "the last pod is gone"
  volume=$(kubectl get pvc dynamic -o 'jsonpath={.spec.volumeName}')
  begun=$EPOCHREALTIME
  kubectl delete pvc dynamic --timeout=60s >/dev/null
  kubectl wait --for=delete "pv/$volume" --timeout=60s >/dev/null || die "the claim's volume stays"
  expect 0 0 "nobody needs a mount pod"
  did "the claim's volume was deleted in $(seconds_since "$begun") s, without a client before and after"
}

# Last one out removes the mount pod, whichever door it came by.
orders() {
  local order each left
  dynamic_claim dynamic 64Mi
  for order in "static flex dynamic" ${FULL:+"dynamic static flex" "flex static dynamic" "static dynamic flex" "dynamic flex static"} "flex dynamic static"; do
    make_pod static "$STATIC_VOLUME"
    make_pod flex "$FLEX_VOLUME"
    make_pod dynamic "$DYNAMIC_VOLUME"
    wait_ready 60 static flex dynamic
    expect 1 3 "three pods at once"
    left=3
    for each in $order; do
      delete_pods "$each"
      left=$((left - 1))
      [ "$left" -gt 0 ] || break
      expect 1 "$left" "pod $each is gone"
    done
    expect 0 0 "pods went in the order $order"
    did "one mount pod for three made at once; gone in the order $order"
  done
  kubectl delete pvc dynamic --timeout=60s >/dev/null
}

# start NAME VOLUME: seconds until Running in $TOOK.
start() { TOOK=$(pod "$1" "$2" | sed '$d' | kubectl create --dry-run=client -o json -f - | "$CLUSTER/start-pod" "$KUBECONFIG") || die "pod $1"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
sum_of() { awk -v w="$1" '{ for (i = 1; i < NF; i++) if ($i == w) print $(i + 1) }'; } # in the line of count_requests --sum

speed() {
  local i plain new present since until asked present_times=() new_times=() plain_times=()
  for i in 1 2 3; do
    start plain 'emptyDir: {}' && plain_times+=("$TOOK") && delete_pods plain
  done
  for i in 1 2 3; do
    since=$EPOCHREALTIME
    start new "$STATIC_VOLUME" && new_times+=("$TOOK")
    until=$EPOCHREALTIME
    delete_pods new
    expect 0 0 "no pod"
  done
  asked=$(count_requests "$AGENT_USER" "$since" "$until" --sum)
  say "  a publish with a new mount pod asked the API server: $asked"
  count_requests "$AGENT_USER" "$since" "$until" | sed 's/^/    /'
  start keeps "$STATIC_VOLUME"
  expect 1 1 "one pod"
  sleep 2   # events and status of the new mount pod are written by then
  since=$EPOCHREALTIME
  for i in 1 2 3 4 5; do
    start "present$i" "$STATIC_VOLUME" && present_times+=("$TOOK")
  done
  until=$EPOCHREALTIME
  asked=$(count_requests "$AGENT_USER" "$since" "$until" --sum)
  say "  five publishes with a present one asked: $asked"
  count_requests "$AGENT_USER" "$since" "$until" | sed 's/^/    /'
  [ "$(sum_of writes <<<"$asked")" -le 5 ] || die "more than one write per publish: $asked"
  [ "$(sum_of lists <<<"$asked")" = 0 ] || die "a publish lists: $asked"
  delete_pods keeps present{1..5}
  expect 0 0 "no pod"
  plain=$(printf '%s\n' "${plain_times[@]}" | median)
  new=$(printf '%s\n' "${new_times[@]}" | median)
  present=$(printf '%s\n' "${present_times[@]}" | median)
  # Times are asked for only of a machine that does nothing else; elsewhere they are said.
  if [ -n "${FULL:-}" ]; then
    at_most "$new" 3 || die "Running after $new s with a new mount pod (${new_times[*]}; a plain pod: $plain)"
    at_most "$present" "$(awk -v p="$plain" 'BEGIN { print (p + 0.5 > 1 ? p + 0.5 : 1) }')" ||
      die "Running after $present s with a present mount pod (${present_times[*]}; a plain pod: $plain)"
  fi
  did "Running: plain $plain s, new mount pod $new s (${new_times[*]}), present $present s (${present_times[*]})"
}

privileged_pod() {
  printf '%s\n' 'apiVersion: v1' 'kind: Pod' "metadata: {name: intruder, namespace: $MOUNTS}" 'spec:' '  containers:' \
    '  - {name: main, image: "moorfs.test/busybox:1", command: [sleep, "60"], securityContext: {privileged: true}}'
}
allowed() { kubectl auth can-i "$@" --as "$AGENT_USER" 2>/dev/null | grep -qx yes; }

restricted() {
  privileged_pod | kubectl apply -f - >"$WORK/log/intruder.log" 2>&1 && die "the mount pods' namespace takes a privileged pod"
  grep -q 'violates PodSecurity "restricted' "$WORK/log/intruder.log" || die "refused for another reason: $(cat "$WORK/log/intruder.log")"
  timed_pod user "$STATIC_VOLUME"
  kubectl -n "$MOUNTS" get pods -l "$MOUNT_LABEL" -o json | python3 -c 'import json, sys
[pod] = json.load(sys.stdin)["items"]
spec = pod["spec"]
assert spec["automountServiceAccountToken"] is False
assert not any(spec.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")), "a namespace of the host"
assert all("hostPath" not in each and "projected" not in each for each in spec["volumes"]), spec["volumes"]
for container in spec["containers"]:
    security = container["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"] and not security["allowPrivilegeEscalation"]
    assert security["readOnlyRootFilesystem"] and not security.get("privileged")
assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
' || die "a mount pod has a privilege"
  local pid
  for pid in $(role_pids supervise) $(role_pids client); do
    awk '$1 == "CapEff:" || $1 == "CapPrm:" { if ($2 !~ /^0+$/) exit 1 } $1 == "Uid:" { if ($2 == 0) exit 1 } $1 == "Seccomp:" { if ($2 != 2) exit 1 }' \
      "/proc/$pid/status" || die "process $pid of a mount pod: $(grep -E 'Cap(Eff|Prm)|Uid|Seccomp' "/proc/$pid/status" | tr '\n' ' ')"
  done
  local each
  for each in "list secrets -n $MOUNTS" "create pods -n $SYSTEM" "create pods -n default" "list pods -n default" \
    "create pods --subresource=exec -n $MOUNTS" "patch nodes"; do
    # shellcheck disable=SC2086
    ! allowed $each || die "the agent may: $each"
  done
  delete_pods user
  expect 0 0 "no pod"
  did "the namespace refuses a privileged pod; a mount pod has no privilege, the agent few rights"
}

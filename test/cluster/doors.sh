# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# MoorFS on the cluster of support.sh: one file system "demo", its node agent, its
# controller with the external-provisioner, the FlexVolume door, and questions to
# them. Source it after support.sh.

MOORFS=$(realpath -m "${MOORFS:-$TOP/build/release/moorfs}")
MOORFS_FLEX=$(realpath -m "${MOORFS_FLEX:-$(dirname "$MOORFS")/flex/moorfs-flex}")
HTTP=127.0.0.1:9808

have_binaries() {
  [ -x "$MOORFS" ] || die "no $MOORFS; build it or set MOORFS"
  [ -x "$MOORFS_FLEX" ] || die "no $MOORFS_FLEX; build target moorfs-flex or set MOORFS_FLEX"
}

# ---- bringing it up --------------------------------------------------------------
make_file_system() {
  META=leveldb:$WORK/demo/meta
  mkdir "$WORK/demo"
  "$MOORFS" format "$META" --store "file:$WORK/demo/store" --name demo >"$WORK/log/format.log" 2>&1 || die "moorfs format"
}
start_agent() {
  launch agent "$MOORFS" node --node-id "$NODE" --kubelet-root "$WORK/kubelet" --state-root "$WORK/state" \
    --fs "demo=$META" --pod-fs demo --http "$HTTP"
}
agent_is_ready() { must_run agent && curl -sf -m 2 "http://$HTTP/readyz" >/dev/null; }
start_controller() {
  launch controller "$MOORFS" controller --endpoint unix:///run/moorfs/controller.sock --fs "demo=$META"
  eventually 10 "the controller serves" test -S /run/moorfs/controller.sock
  launch provisioner csi-provisioner --csi-address=/run/moorfs/controller.sock \
    --kubeconfig="$WORK/provisioner.kubeconfig" --default-fstype= --timeout=60s --retry-interval-start=500ms
}
# As the installer does it: kubelet must never see half a driver.
install_flex_door() {
  local folder=$WORK/plugins/moorfs.io~moorfs-flex
  mkdir "$folder"
  cp "$MOORFS_FLEX" "$folder/.moorfs-flex"
  chmod 755 "$folder/.moorfs-flex"
  mv "$folder/.moorfs-flex" "$folder/moorfs-flex"
}
is_registered() { [ "$(kubectl get csinode "$NODE" -o 'jsonpath={.spec.drivers[*].name}' 2>/dev/null)" = csi.moorfs.io ]; }

# ---- questions -------------------------------------------------------------------
# "PID ROLE" of every process of the binary.
moorfs_processes() {
  local each role
  for each in /proc/[0-9]*; do
    [ "$(readlink "$each/exe" 2>/dev/null)" = "$MOORFS" ] || continue
    role=$(tr '\0' '\n' <"$each/cmdline" 2>/dev/null | sed -n 2p)
    printf '%s %s\n' "${each#/proc/}" "$role"
  done
  return 0
}
clients() { moorfs_processes | awk '$2 == "client" { print $1 }'; }
client_count() { clients | grep -c . || true; }
# Calls and mean time of CSI's NodePublishVolume since the agent's start.
publish_times() {
  curl -sf -m 2 "http://$HTTP/metrics" | awk '/^moorfs_csi_call_seconds_(count|sum)/ && /"OK"/ && /"NodePublishVolume"/ {
    v[$1 ~ /count/ ? "n" : "s"] = $2 } END { if (v["n"] > 0) printf "%d calls, %.1f ms each", v["n"], v["s"] * 1000 / v["n"] }'
}
metric() { curl -sf -m 2 "http://$HTTP/metrics" | awk -v n="moorfs_node_$1" '$1 == n { print $2 }'; }
pss_mib() { awk '$1 == "Pss:" { s += $2 } END { printf "%.1f", s / 1024 }' "${@/%//smaps_rollup}"; } # /proc/PID...
our_mounts() { awk '/ - fuse[^ ]* / && /moorfs/ { print $5 }' /proc/self/mountinfo; }
pod_mounts() { our_mounts | grep -c "^$WORK/kubelet/" || true; }

# expect_shared CLIENTS TARGETS WHEN: processes, mounts and the agent's own account agree.
shows() {
  [ "$(client_count)" = "$1" ] && [ "$(pod_mounts)" = "$2" ] &&
    [ "$(metric clients)" = "$1" ] && [ "$(metric targets)" = "$2" ]
}
# The agent's own list, asked through the FlexVolume door: one client, a target of each door.
lists_both_doors() {
  "$WORK/plugins/moorfs.io~moorfs-flex/moorfs-flex" list | python3 -c 'import json, sys
clients = json.load(sys.stdin)["clients"]
assert len(clients) == 1 and clients[0]["state"] == "serving", clients
targets = sorted(each["target"] for each in clients[0]["targets"] if each["mounted"])
assert len(targets) == 2 and "/kubernetes.io~csi/" in "".join(targets) and "/moorfs.io~moorfs-flex/" in "".join(targets), targets'
}
expect_shared() {
  local try
  for try in {1..100}; do
    shows "$1" "$2" && return
    sleep 0.1
  done
  say "processes: $(moorfs_processes | tr '\n' ';')"
  say "mounts: $(our_mounts | tr '\n' ' ')"
  say "metrics: clients $(metric clients) targets $(metric targets)"
  die "$3: wanted $1 client(s) and $2 target(s) after $try tries"
}

no_pod_directories() { [ -z "$(find "$WORK/kubelet/pods" -mindepth 1 -maxdepth 1)" ]; }
nothing_is_left() {
  local left
  expect_shared 0 0 "at the end"
  [ -z "$(our_mounts)" ] || die "mounts are left: $(our_mounts)"
  left=$(moorfs_processes | awk '$2 != "node" && $2 != "controller"')
  [ -z "$left" ] || die "processes are left: $left"
  left=$(find "$WORK/state/clients" "$WORK/state/mounts" -mindepth 1 ! -name .lock)
  [ -z "$left" ] || die "the agent's state is left: $left"
  # kubelet removes the pods' directories a little later than the pods.
  eventually 60 "kubelet has removed the pods' directories" no_pod_directories
}

# ---- pods ------------------------------------------------------------------------
FLEX_VOLUME='flexVolume: {driver: moorfs.io/moorfs-flex, options: {fs: demo}}'
CSI_VOLUME='persistentVolumeClaim: {claimName: static}'
make_pod() { pod "$@" | kubectl apply -f - >/dev/null; }
# Counts in a file until told to end, or until a write fails, which ends the pod.
worker() { # NAME
  # shellcheck disable=SC2016
  printf 'trap "exit 0" TERM; i=0; : >/data/%s.count; while echo $i >>/data/%s.count; do i=$((i+1)); sleep 0.1; done; exit 1' "$1" "$1"
}
# No write of a worker has failed or is missing, whatever happened meanwhile.
has_worked() { # NAME
  # shellcheck disable=SC2016
  run_in "$1" "$(printf 'n=0; while read -r i; do [ "$i" = "$n" ] || { echo "$i instead of $n"; exit 1; }; n=$((n+1)); done </data/%s.count; [ "$n" -gt 3 ]' "$1")" ||
    die "pod $1 has lost a write"
}
# timed_pod NAME VOLUME [COMMAND]: makes it, waits until it is Ready; seconds in $TOOK.
timed_pod() {
  local begun=$EPOCHREALTIME
  make_pod "$@"
  wait_ready 60 "$1"
  TOOK=$(seconds_since "$begun")
}
writes() { run_in "$1" "echo $2 >/data/$2 && sync /data/$2"; }
reads() { [ "$(run_in "$1" "cat /data/$2")" = "$2" ] || die "pod $1 does not see $2"; }
event_of() { kubectl get events --field-selector "involvedObject.name=$1" -o 'jsonpath={range .items[*]}{.message}{"\n"}{end}'; }
has_event() { event_of "$1" | grep -q -- "$2"; }

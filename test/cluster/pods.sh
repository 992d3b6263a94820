# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# MoorFS on the cluster of support.sh as its users put it there: the image, manifests/
# as they are shipped, a file system "main" on a local volume. And questions to it.
# Source it after support.sh.

MOORFS=$(realpath -m "${MOORFS:-$TOP/build/release/moorfs}")
MOORFS_FLEX=$(realpath -m "${MOORFS_FLEX:-$(dirname "$MOORFS")/flex/moorfs-flex}")
WRITER=$(realpath -m "${WRITER:-$(dirname "$MOORFS")/test/cluster/writer}")
export AUDIT=1
NODE=worker-1        # as the examples call it
SECOND_NODE=worker-2
SYSTEM=moorfs-system
MOUNTS=moorfs-mounts
AGENT_USER=system:serviceaccount:$SYSTEM:moorfs-node
CONTROLLER_USER=system:serviceaccount:$SYSTEM:moorfs-controller
PROVISIONER_IMAGE=registry.k8s.io/sig-storage/csi-provisioner:v6.4.0
MANIFESTS=$TOP/manifests
OVERLAY=$CLUSTER/overlay   # overlays/both with the components that bind agents and mount pods

have_programs() {
  local each
  for each in "$MOORFS" "$MOORFS_FLEX" "$WRITER"; do
    [ -x "$each" ] || die "no $each; build it (target cluster_writer for writer), or set MOORFS, MOORFS_FLEX, WRITER"
  done
  VERSION=$("$MOORFS" --version | awk '{ print $NF; exit }')
  IMAGE=moorfs.io/moorfs:$VERSION
}

# ---- deployment --------------------------------------------------------------------
# Archives in $WORK/nodes, which every node imports.
make_images() {
  mkdir -p "$WORK/nodes"
  if [ -n "${MOORFS_IMAGE:-}" ]; then
    ln -s "$MOORFS_IMAGE" "$WORK/nodes/moorfs.tar"
  else
    make_image
  fi
  "$CLUSTER/image" "$WORK/nodes/provisioner.tar" "$PROVISIONER_IMAGE" "$BIN/csi-provisioner=/csi-provisioner" -- /csi-provisioner
}
make_image() {
  "$TOP/installer/image" --moorfs "$MOORFS" --moorfs-flex "$MOORFS_FLEX" "$WORK/nodes/moorfs.tar" >"$WORK/log/image.log" 2>&1 ||
    die "installer/image: $(tail -n 3 "$WORK/log/image.log")"
}
import_node_images() {
  local each
  for each in "$WORK"/nodes/*.tar; do import_image "$each"; done
}
deploy_moorfs() {
  local restarted
  kubectl apply -k "$OVERLAY" >"$WORK/log/apply.log" 2>&1 || die "kubectl apply -k $OVERLAY: $(tail -n 3 "$WORK/log/apply.log")"
  rolled_out daemonset/moorfs-keeper
  rolled_out daemonset/moorfs-node
  ! exists -n "$SYSTEM" deployment/moorfs-controller || rolled_out deployment/moorfs-controller
  # Its pod is Ready up to 30 s later: a fresh kubelet spreads its first probes.
  ! exists -n "$SYSTEM" daemonset/moorfs-installer || eventually 60 "the FlexVolume driver is installed" test -x "$(flex_program)"
  restarted=$(kubectl -n "$SYSTEM" get pods -o 'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount}{"\n"}{end}' | grep -v ' 0\( 0\)*$' || true)
  [ -z "$restarted" ] || die "a container of a fresh deployment had to be restarted: $restarted"
}
# rollout status refuses OnDelete: there every node has a Ready pod.
keepers_are_ready() {
  kubectl -n "$SYSTEM" get pods -l app.kubernetes.io/name=moorfs-keeper -o json | python3 -c 'import json, sys
ready = [pod["spec"]["nodeName"] for pod in json.load(sys.stdin)["items"] if "deletionTimestamp" not in pod["metadata"]
         and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))]
sys.exit(len(ready) != int(sys.argv[1]) or not ready)' "$(kubectl get nodes -o name | wc -l)"
}
rolled_out() { # KIND/NAME
  if [ "$1" = daemonset/moorfs-keeper ]; then
    eventually 90 "every node has a keeper" keepers_are_ready
    return
  fi
  kubectl -n "$SYSTEM" rollout status "$1" --timeout=90s >"$WORK/log/rollout.log" 2>&1 ||
    die "$1 is not rolled out: $(tail -n 1 "$WORK/log/rollout.log"); $(kubectl -n "$SYSTEM" get pods --no-headers | tr '\n' ';')"
}
is_registered() { # [NODE]
  [ "$(kubectl get csinode "${1:-$NODE}" -o 'jsonpath={.spec.drivers[*].name}' 2>/dev/null)" = csi.moorfs.io ]
}

# example NAME [FS [NODE]]: manifests/examples/NAME.yaml, for another file system or node,
# with the tests' busybox.
example() {
  sed "s/\bmain\b/${2:-main}/g; s/\bworker-1\b/${3:-$NODE}/g; s,image: busybox:.*,image: moorfs.test/busybox:1," \
    "$MANIFESTS/examples/$1.yaml"
}
# local_volume FS [NODE]: a PersistentVolume on the node's disk and its claim for mount pods.
local_volume() {
  if [ "${2:-$NODE}" = "$NODE" ]; then mkdir -p "/srv/moorfs/$1"; else in_second_node mkdir -p "/srv/moorfs/$1"; fi
  example local-volume "$1" "${2:-$NODE}" | kubectl apply -f - >/dev/null
}
format_volume() { # FS
  example format-job "$1" | kubectl apply -f - >/dev/null
  kubectl -n "$MOUNTS" wait --for=condition=Complete "job/format-$1" --timeout=60s >/dev/null ||
    die "formatting $1: $(kubectl -n "$MOUNTS" logs "job/format-$1" 2>&1 | tail -n 3)"
  kubectl -n "$MOUNTS" delete job "format-$1" >/dev/null
}
# static_volume CLAIM [FS [HANDLE_SUFFIX]]: a PersistentVolume of MoorFS and a claim in default.
static_volume() {
  local fs=${2:-main}
  cat <<END | kubectl apply -f - >/dev/null
apiVersion: v1
kind: PersistentVolume
metadata: {name: $1}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  storageClassName: ""
  claimRef: {namespace: default, name: $1}
  csi: {driver: csi.moorfs.io, volumeHandle: "$fs#${3:-$1}", volumeAttributes: {fs: $fs}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: $1}
spec: {accessModes: [ReadWriteMany], storageClassName: "", volumeName: $1, resources: {requests: {storage: 1Gi}}}
END
  bound "$1"
}
bound() { # CLAIM
  kubectl wait --for=jsonpath='{.status.phase}'=Bound "pvc/$1" --timeout=60s >/dev/null || die "claim $1 is not bound"
}

# ---- questions ---------------------------------------------------------------------
MOUNT_LABEL=app.kubernetes.io/name=moorfs-mount
mount_pods() { kubectl -n "$MOUNTS" get pods -l "$MOUNT_LABEL" -o name | sed 's,^pod/,,'; } # names
mount_pod_field() { # JSONPATH_OF_ONE_POD
  kubectl -n "$MOUNTS" get pods -l "$MOUNT_LABEL" -o "jsonpath={range .items[*]}{$1}{\"\\n\"}{end}"
}
system_pod() { # APP [NODE]
  kubectl -n "$SYSTEM" get pods -l "app.kubernetes.io/name=$1" --field-selector "spec.nodeName=${2:-$NODE},status.phase=Running" \
    -o 'jsonpath={.items[0].metadata.name}'
}
# "mount pods N references N targets N", and what does not agree.
references_on() { kubectl -n "$MOUNTS" get pods -o json | "$CLUSTER/references.py" "$1" "$2"; } # NODE MOUNTINFO
references() { references_on "$NODE" /proc/self/mountinfo; }
shows() { [ "$(references 2>&1)" = "mount pods $1 references $2 targets $2" ]; }
# expect MOUNT_PODS TARGETS WHEN: what pods carry and what is mounted agree.
expect() {
  local try
  for try in {1..60}; do
    shows "$1" "$2" && return
    sleep 0.2
  done
  die "$3: wanted mount pods $1 references $2 targets $2; there is: $(references 2>&1)"
}
# "PID ROLE" of MoorFS's processes in containers of this node, ROLE its first argument.
moorfs_processes() { list_processes | awk '$2 ~ /(^|\/)moorfs$/ { print $1, $3 }'; }
role_pids() { moorfs_processes | awk -v r="$1" '$2 == r { print $1 }'; }
# The emptyDir of a mount pod holds sockets only it and root use; PID 1 in there is "supervise".
event_of() { # NAMESPACE POD
  kubectl -n "$1" get events --field-selector "involvedObject.name=$2" -o 'jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}'
}
has_event() { event_of "$1" "$2" | grep -q -- "$3"; }
# What events of the mount pods' namespace say, their newest last.
mount_events() {
  kubectl -n "$MOUNTS" get events --sort-by=.lastTimestamp \
    -o 'jsonpath={range .items[*]}{.type} {.reason} {.involvedObject.name}: {.message}{"\n"}{end}'
}
count_requests() { "$CLUSTER/audit.py" "$WORK/log/audit.json" "$@"; } # USER_PATTERN SINCE [UNTIL] [--sum|--each]

# ---- pods --------------------------------------------------------------------------
FLEX_VOLUME='flexVolume: {driver: moorfs.io/moorfs-flex, options: {fs: main}}'
claim_volume() { printf 'persistentVolumeClaim: {claimName: %s}' "$1"; }
make_pod() { pod "$@" | kubectl apply -f - >/dev/null; }
# timed_pod NAME VOLUME [COMMAND]: makes it, waits until it is Ready; seconds in $TOOK.
timed_pod() {
  local begun=$EPOCHREALTIME
  make_pod "$@"
  wait_ready 60 "$1"
  TOOK=$(seconds_since "$begun")
}
at_most() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a <= b) }'; } # SECONDS LIMIT
writes() { run_in "$1" "echo $2 >/data/$2 && sync /data/$2"; }
reads() { [ "$(run_in "$1" "cat /data/$2")" = "$2" ] || die "pod $1 does not see $2"; }
event_pod_refused() { kubectl get events --field-selector "involvedObject.name=$1" -o 'jsonpath={range .items[*]}{.message}{"\n"}{end}'; }

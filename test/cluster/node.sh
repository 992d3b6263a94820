# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# One node: containerd with its images, and kubelet. support.sh sources it for the
# first node, second-node for another one in namespaces of its own. Scripts use
#   host_directories        before start_cluster: kubelet's root and its plugins are
#                           where they are on a real host, so that manifests apply
#                           as they are shipped; the machine's own are not touched
#   kubelet_setting KEY VALUE   for the next start_kubelet
#   start_kubelet, kill_kubelet
#   import_image ARCHIVE [TAG_IN_IT NEW_TAG]
#
# In: NODE NODE_IP POD_NET CRI KUBELET_ROOT PLUGINS WORK, and WRITER: a program that
#     goes into the image of the test pods

# ---- directories of the host -------------------------------------------------------
host_directories() {
  KUBELET_ROOT=/var/lib/kubelet
  PLUGINS=/usr/libexec/kubernetes/kubelet-plugins/volume/exec
  local each
  for each in "$KUBELET_ROOT" /var/lib/moorfs /srv/moorfs "$PLUGINS"; do room_for "$each"; done
  for each in "$KUBELET_ROOT" /var/lib/moorfs /srv/moorfs "$PLUGINS"; do own_directory "$each"; done
}
# What does not exist is not made on the machine: its parent becomes one of links to
# what is there.
room_for() { # PATH
  local parent=${1%/*} each
  [ ! -d "$1" ] || return 0
  while [ ! -d "$parent" ]; do parent=${parent%/*}; done
  if [ ! -d "$WORK/machine$parent" ]; then
    mkdir -p "$WORK/machine$parent"
    mount --bind "$parent" "$WORK/machine$parent"
    mount --make-private "$WORK/machine$parent"
    mount -t tmpfs -o mode=755 moorfs-cluster "$parent"
    for each in "$WORK/machine$parent"/*; do ln -s "$each" "$parent/"; done
  fi
  mkdir -p "$1"
}
# An empty directory of this cluster's at PATH, shared with nobody outside.
own_directory() {
  mkdir -p "$WORK/host$1"
  [ ! -L "$1" ] || { rm "$1" && mkdir "$1"; }
  mount --bind "$WORK/host$1" "$1"
  # A peer group of its own: what is mounted in here does not show up below $WORK too.
  mount --make-private "$1"
  mount --make-rshared "$1"
}

# ---- containerd --------------------------------------------------------------------
# Copies of the image for each container ("native") work on every file system.
snapshotter() {
  local dir=$WORK/tmp/overlay
  mkdir -p "$dir"/{lower,upper,work,merged}
  if mount -t overlay -o "lowerdir=$dir/lower,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/merged" 2>/dev/null; then
    umount "$dir/merged"
    printf 'overlayfs\n'
  else
    printf 'native\n'
  fi
}

write_containerd_config() {
  # A network for pods that do not use the node's: a veth pair each, routed.
  cat >"$WORK/cni/pods.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "dataDir": "/run/cni",
  "ranges": [[{"subnet": "$POD_NET"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc may not lower it, and
  # every sandbox would fail.
  cat >"$WORK/containerd.toml" <<END
version = 2
root = "$WORK/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$CRI"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "moorfs.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$WORK/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$(snapshotter)"
END
}

start_containerd() {
  launch containerd containerd --config "$WORK/containerd.toml"
  eventually 20 "containerd answers" containerd_answers
}
containerd_answers() { ctr version >/dev/null 2>&1; }
ctr() { command ctr -a "$CRI" -n k8s.io "$@"; }

# The images of test pods; archives are written once, whatever number of nodes reads them.
import_images() {
  local images=${IMAGES:-$WORK}
  if [ ! -e "$images/busybox.tar" ]; then
    "$CLUSTER/image" "$images/pause.tar" moorfs.test/pause:1 "$BIN/pause=/pause" -- /pause
    "$CLUSTER/image" "$images/busybox.tar" moorfs.test/busybox:1 "$(command -v busybox)=/bin/busybox" \
      ${WRITER:+"$WRITER=/bin/writer"}
  fi
  import_image "$images/pause.tar"
  import_image "$images/busybox.tar"
}
import_image() { # ARCHIVE [TAG NEW_TAG]
  ctr images import "$1" >/dev/null || die "ctr images import $1"
  [ $# -lt 3 ] || ctr images tag --force "$2" "$3" >/dev/null || die "ctr images tag $2 $3"
}

# ---- kubelet -----------------------------------------------------------------------
write_kubelet_config() {
  # Anonymous: nobody but us is in this network namespace, and the API server
  # reaches kubelet for exec and logs without a certificate of its own.
  cat >"$WORK/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://$CRI
volumePluginDir: $PLUGINS
podLogsDir: $WORK/log/pods
clusterDNS: [10.77.2.10]
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
nodeStatusUpdateFrequency: 2s
shutdownGracePeriod: 0s
END
}
kubelet_setting() { # KEY VALUE
  sed -i "/^$1:/d" "$WORK/kubelet.yaml"
  printf '%s: %s\n' "$1" "$2" >>"$WORK/kubelet.yaml"
}

start_kubelet() {
  # shellcheck disable=SC2016
  launch kubelet bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$(kubelet_group)" \
    kubelet --config "$WORK/kubelet.yaml" --kubeconfig "$WORK/kubelet.kubeconfig" --root-dir "$KUBELET_ROOT" \
    --cert-dir "$WORK/kubelet-pki" --hostname-override "$NODE" --node-ip "$NODE_IP"
}
# As systemd ends a service: everything in its control group, at once.
kill_kubelet() {
  local group
  group=$(kubelet_group)
  xargs -r kill -9 <"$group/cgroup.procs" 2>/dev/null || true
  finish kubelet KILL
}
kubelet_is_healthy() { curl -sf -m 2 http://127.0.0.1:10248/healthz >/dev/null; }

# containerd leaves its shims running, by design.
stop_containerd() {
  local shims
  shims=$(list_processes | awk -v s="-address $CRI" 'index($0, s) { print $1 }')
  finish containerd
  xargs -r kill -9 <<<"$shims" 2>/dev/null || true
}

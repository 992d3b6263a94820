# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A real Kubernetes node for test scripts. Source it, call `in_cluster "$@"`
# first: the script runs again inside namespaces of its own (mounts, processes,
# network, IPC, control groups), where it continues after that line. Then
#   start_cluster, stop_cluster      etcd, API server, … kubelet, by recorded pids
#   start_kubelet, kill_kubelet      the latter kills its whole control group
#   kubectl                          as cluster administrator
#   launch NAME COMMAND…, finish NAME [SIGNAL]   more processes of the script's own
# Ports are those of the network namespace, so that two runs do not meet, and /run
# and /var/log are private. When the script ends, in whatever way, the kernel kills
# the process namespace, with it go mounts and network; janitor removes the rest.
#
# In: MOORFS, MOORFS_FLEX  the binaries
#     KEEP=1               leaves the logs in $WORK.kept when the script fails
#     AUDIT=1              the API server logs requests (audit.sh reads that)

set -euo pipefail
shopt -s inherit_errexit

CLUSTER=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$CLUSTER/../.." && pwd)
API_IP=10.77.2.1   # the first address of the services' range
API=https://$API_IP
POD_NET=10.77.1.0/24
NODE=node
NODE_IP=10.77.0.1
SECOND_NODE=second
SECOND_IP=10.77.0.2
SECOND_NET=10.77.3.0/24
CRI=/run/containerd/containerd.sock
packages=(etcd-server containerd runc busybox-static containernetworking-plugins openssl curl iproute2)
STEP_START=$EPOCHREALTIME

# shellcheck source=test/cluster/node.sh
. "$CLUSTER/node.sh"

say() { printf '%s\n' "$*"; }
die() { say "FAILED: $*"; exit 1; }
seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'; }
# Says what was done since the last call, and how long it took.
did() {
  printf '  %-72s %6.2f s\n' "$*" "$(seconds_since "$STEP_START")"
  STEP_START=$EPOCHREALTIME
}
# eventually SECONDS WHAT COMMAND…: until the command succeeds.
eventually() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || die "$what: not so in time ($*)"
    sleep 0.1
  done
}

# ---- namespaces ----------------------------------------------------------------
install_what_is_missing() {
  local each have missing=()
  have=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii  *//p')
  for each in "${packages[@]}"; do
    grep -qx "$each" <<<"$have" || missing+=("$each")
  done
  [ ${#missing[@]} -eq 0 ] && return
  # Services must not start: only the binaries are wanted.
  local policy=/usr/sbin/policy-rc.d made=
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1; }
  local status=0
  { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}"; } \
    >/tmp/moorfs-cluster-apt.$$ 2>&1 || status=1
  [ -n "$made" ] && rm -f "$policy"
  [ "$status" = 0 ] || { tail -n 20 "/tmp/moorfs-cluster-apt.$$"; rm -f "/tmp/moorfs-cluster-apt.$$"; die "apt-get install ${missing[*]}"; }
  rm -f "/tmp/moorfs-cluster-apt.$$"
}

in_cluster() {
  if [ -n "${MOORFS_CLUSTER_WORK:-}" ]; then
    inside "$@"
    return
  fi
  [ "$(id -u)" = 0 ] || die "needs root"
  install_what_is_missing
  local bin status=0 runner janitor
  bin=${MOORFS_CLUSTER_BIN:-$("$CLUSTER/build")}
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/moorfs-cluster.XXXXXX")
  # In a session of its own: a signal to our process group must not end it.
  exec 7> >(exec setsid --wait "$CLUSTER/janitor" "$WORK")
  janitor=$!
  # pdeathsig and kill-child: SIGKILL of this shell ends everything inside as well.
  MOORFS_CLUSTER_WORK=$WORK MOORFS_CLUSTER_BIN=$bin setpriv --pdeathsig KILL \
    unshare --mount --pid --net --ipc --fork --kill-child --propagation private --mount-proc "$(realpath "$0")" "$@" 7>&- <&0 &
  runner=$!
  trap 'kill -9 "$runner" 2>/dev/null' INT TERM HUP
  wait "$runner" || status=$?
  wait "$runner" 2>/dev/null || true   # the first one ends early when a signal came
  [ "$status" -ne 0 ] && [ -n "${KEEP:-}" ] && cp -r "$WORK/log" "$WORK.kept" && say "logs in $WORK.kept"
  exec 7>&-
  wait "$janitor" || { say "FAILED: the cluster left something behind"; [ "$status" -ne 0 ] || status=1; }
  exit "$status"
}

inside() {
  WORK=$MOORFS_CLUSTER_WORK
  BIN=$MOORFS_CLUSTER_BIN
  CGROUP=$(basename "$WORK")
  if [ -z "${MOORFS_CLUSTER_GROUPS:-}" ]; then
    readlink /proc/self/ns/pid >"$WORK/pidns"
    enter_control_groups
    MOORFS_CLUSTER_GROUPS=1 exec unshare --cgroup "$0" "$@"
  fi
  PATH=$BIN:$PATH
  export KUBECONFIG=$WORK/admin.kubeconfig HOME=$WORK/home TMPDIR=$WORK/tmp
  KUBELET_ROOT=$WORK/kubelet
  PLUGINS=$WORK/plugins
  mkdir -p "$WORK"/{log,pid,tmp,home,cni} "$KUBELET_ROOT" "$PLUGINS"
  drop_copies_of_mounts
  # kubelet and containerd want shared mounts; shared among ourselves only.
  mount --make-rshared /
  mount -t tmpfs -o mode=755 moorfs-cluster /run
  mount --bind "$WORK/log" /var/log
  show_own_groups_only
  keep_sysctls
  ip link set lo up
  ip address add "$NODE_IP/32" dev lo
  ip address add "$API_IP/32" dev lo
  trap on_exit EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# This namespace began as a copy: it must not hold other people's FUSE mounts.
drop_copies_of_mounts() {
  local each
  while IFS= read -r each; do
    umount -l "$(printf '%b' "$each")" || true
  done < <(awk '$3 ~ /^fuse/ { print $2 }' /proc/self/mounts | tac)
}

# kubelet sets sysctls of the whole machine; it shall find them set already.
keep_sysctls() {
  local each file
  for each in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/proc/sys/${each%=*}
    [ -e "$file" ] || continue
    printf '%s\n' "${each#*=}" >"$WORK/tmp/sysctl"
    cp "$WORK/tmp/sysctl" "$WORK/tmp/${each//[\/=]/-}"
    mount --bind "$WORK/tmp/${each//[\/=]/-}" "$file"
  done
}

on_exit() {
  local status=$? log
  set +e
  if [ "$status" -ne 0 ]; then
    [ ! -e "$WORK/pid/apiserver" ] || say "--- what pods and events say"
    [ ! -e "$WORK/pid/apiserver" ] || timeout 10 kubectl get pods -A -o wide 2>&1 | tail -n 20
    [ ! -e "$WORK/pid/apiserver" ] || timeout 10 kubectl get events -A --sort-by=.lastTimestamp 2>&1 | tail -n 15
    for log in "$WORK"/log/*.log "$WORK"/log/pods/moorfs-*/*/*.log; do
      [ -s "$log" ] && say "--- last lines of ${log#"$WORK/log/"}" && tail -n "${LOG_LINES:-8}" "$log" | cut -c1-400
    done
  fi
  exit "$status"
}

# ---- processes -----------------------------------------------------------------
launch() { # NAME COMMAND...
  local name=$1
  shift
  setsid "$@" >>"$WORK/log/$name.log" 2>&1 </dev/null &
  printf '%s\n' $! >"$WORK/pid/$name"
  disown   # no "Killed" from the shell when a test kills it
}
pid_of() { cat "$WORK/pid/$1"; }
is_running() { # a zombie is not
  [ -e "$WORK/pid/$1" ] && grep -q '^State:[[:space:]]*[^Z]' "/proc/$(pid_of "$1")/status" 2>/dev/null
}
has_ended() { ! is_running "$1"; }
must_run() { is_running "$1" || die "$1 has ended: $(tail -n 5 "$WORK/log/$1.log" | cut -c1-300)"; }
finish() { # NAME [SIGNAL]
  local try
  [ -e "$WORK/pid/$1" ] || return 0
  is_running "$1" && kill "-${2:-TERM}" "$(pid_of "$1")"
  for try in {1..150}; do
    is_running "$1" || break
    [ "$try" != 150 ] || { say "$1 did not end within 15 s, killed"; kill -9 "$(pid_of "$1")"; }
    sleep 0.1
  done
  rm -f "$WORK/pid/$1"
}

# ---- control groups ------------------------------------------------------------
# "MOUNT_POINT TYPE OPTIONS" of each hierarchy.
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/self/mounts; }
# Where we are in the hierarchy at $1, relative to its mount.
own_group() {
  local controllers=$3
  [ "$2" = cgroup2 ] && controllers=
  awk -F: -v mine="$controllers" '
    BEGIN { n = split(mine, words, ","); for (i = 1; i <= n; i++) wanted[words[i]] = 1 }
    mine == "" && $2 == "" { print $3 }
    mine != "" { split($2, have, ","); if (have[1] in wanted) print $3 }' /proc/self/cgroup
}

# A group of our own below the present one, in each hierarchy; janitor gets the list.
enter_control_groups() {
  local point type options group each
  while read -r point type options; do
    group=$(own_group "$point" "$type" "$options")
    [ -d "$point$group" ] || continue
    printf '%s\n' "$point${group%/}/$CGROUP" >>"$WORK/cgroups"
    mkdir -p "$point${group%/}/$CGROUP" 2>/dev/null || continue
    for each in cpuset.cpus cpuset.mems; do
      [ -e "$point$group/$each" ] && [ "$type" = cgroup ] && cat "$point$group/$each" >"$point${group%/}/$CGROUP/$each"
    done
    echo 0 >"$point${group%/}/$CGROUP/cgroup.procs"
  done < <(hierarchies)
}

# In a control group namespace: what everybody in here takes for the root of a
# hierarchy is our group, so that kubelet's groups, and those of MoorFS's clients,
# neither meet those of the machine nor outlive us.
show_own_groups_only() {
  local point type options
  while read -r point type options; do
    umount "$point" || continue
    mount -t "$type" -o "$options" cgroup "$point" || die "mount $type $options at $point"
    mkdir -p "$point/kubelet"   # a node that lost its power finds its groups
    if [ "$type" = cgroup2 ]; then
      # Only a group without processes of its own hands controllers down.
      mkdir -p "$point/script" && echo 0 >"$point/script/cgroup.procs"
      sed 's/[^ ][^ ]*/+&/g' "$point/cgroup.controllers" >"$point/cgroup.subtree_control" || true
    elif [ -e "$point/cpuset.cpus" ]; then
      cat "$point/cpuset.cpus" >"$point/kubelet/cpuset.cpus"
      cat "$point/cpuset.mems" >"$point/kubelet/cpuset.mems"
    fi
  done < <(awk '$3 == "cgroup" || $3 == "cgroup2" { sub(/^r[ow],/, "", $4); gsub(/(relatime|nosuid|nodev|noexec|nsdelegate|memory_recursiveprot),?/, "", $4)
      sub(/,$/, "", $4); sub(/^name=/, "none,name=", $4); print $2, $3, $4 == "" ? "rw" : $4 }' /proc/self/mounts)
}
# Where kubelet and what it starts can be found again: one hierarchy is enough.
kubelet_group() { hierarchies | { read -r point _ && printf '%s\n' "$point/kubelet"; }; }

# ---- the cluster -----------------------------------------------------------------
write_keys() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$WORK/account.key" 2>/dev/null
  openssl ec -in "$WORK/account.key" -pubout -out "$WORK/account.pub" 2>/dev/null
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=moorfs-cluster \
    -addext "subjectAltName=IP:$API_IP,IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc" \
    -keyout "$WORK/api.key" -out "$WORK/api.crt" 2>/dev/null
}

write_kubeconfigs() {
  local name user groups token
  : >"$WORK/tokens.csv"
  while read -r name user groups; do
    token=$(openssl rand -hex 16)
    printf '%s,%s,%s,"%s"\n' "$token" "$user" "$name" "$groups" >>"$WORK/tokens.csv"
    cat >"$WORK/$name.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "$API", certificate-authority: "$WORK/api.crt"}}]
users: [{name: u, user: {token: "$token"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
END
  done <<END
admin admin system:masters
manager system:kube-controller-manager
scheduler system:kube-scheduler
kubelet system:node:$NODE system:nodes
$SECOND_NODE system:node:$SECOND_NODE system:nodes
provisioner moorfs-provisioner -
END
}

# Everything that MoorFS asks, and every change by whomever.
audit_policy() {
  cat <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts:moorfs-system"]}
- {level: None, verbs: [get, list, watch]}
- {level: None, resources: [{group: coordination.k8s.io, resources: [leases]}], namespaces: [kube-node-lease, kube-system]}
- {level: Metadata}
END
}

start_api() {
  local audit=()
  [ -z "${AUDIT:-}" ] || audit=(--audit-policy-file="$WORK/audit.yaml" --audit-log-path="$WORK/log/audit.json")
  launch apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address="$API_IP" --secure-port=443 \
    --advertise-address="$NODE_IP" \
    --tls-cert-file="$WORK/api.crt" --tls-private-key-file="$WORK/api.key" --cert-dir="$WORK/api" \
    --service-cluster-ip-range=10.77.2.0/24 --endpoint-reconciler-type=none \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$WORK/account.pub" \
    --service-account-signing-key-file="$WORK/account.key" --token-auth-file="$WORK/tokens.csv" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-preferred-address-types=InternalIP --profiling=false "${audit[@]}"
}
api_is_ready() {
  must_run etcd
  must_run apiserver
  timeout 5 kubectl get --raw /readyz >/dev/null 2>&1
}

start_cluster() {
  mkdir -p "$WORK/api"
  write_keys
  write_kubeconfigs
  write_containerd_config
  write_kubelet_config
  audit_policy >"$WORK/audit.yaml"
  # Nothing in here outlives the run, so etcd needs no disk.
  launch etcd etcd --data-dir "$WORK/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
  start_containerd
  start_api
  import_images
  eventually 60 "the API server is ready" api_is_ready
  launch controller-manager kube-controller-manager --kubeconfig "$WORK/manager.kubeconfig" --leader-elect=false \
    --root-ca-file="$WORK/api.crt" --service-account-private-key-file="$WORK/account.key" \
    --use-service-account-credentials=true --cert-dir "$WORK/manager" --bind-address=127.0.0.1 \
    --flex-volume-plugin-dir "$PLUGINS" --kube-api-qps=200 --kube-api-burst=400 \
    --pvclaimbinder-sync-period=1s
  launch scheduler kube-scheduler --kubeconfig "$WORK/scheduler.kubeconfig" --leader-elect=false \
    --cert-dir "$WORK/scheduler" --bind-address=127.0.0.1
  start_kubelet
  eventually 60 "the node registers" exists node "$NODE"
  eventually 60 "there is a default service account" exists serviceaccount default
  kubectl wait --for=condition=Ready "node/$NODE" --timeout=60s >/dev/null
}

exists() { kubectl get "$@" >/dev/null 2>&1; } # KIND NAME

stop_cluster() {
  local each
  for each in kubelet scheduler controller-manager apiserver etcd; do
    finish "$each"
  done
  stop_containerd
}
# "PID COMMAND LINE" of everything in this process namespace but kernel threads and zombies.
list_processes() {
  local each line
  for each in /proc/[0-9]*; do
    line=$({ tr '\0' ' ' <"$each/cmdline"; } 2>/dev/null) || continue
    [ -n "$line" ] && printf '%s %s\n' "${each#/proc/}" "$line"
  done
  return 0
}

# ---- pods --------------------------------------------------------------------------
# pod NAME VOLUME_YAML [COMMAND]: its manifest; the volume "data" is at /data. The
# default command stays until it is told to end.
pod() {
  local name=$1 volume=$2
  # shellcheck disable=SC2016
  local command=${3:-'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'}
  cat <<END
apiVersion: v1
kind: Pod
metadata: {name: $name, labels: {app: $name}}
spec:
  hostNetwork: true
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  automountServiceAccountToken: false
  containers:
  - name: main
    image: moorfs.test/busybox:1
    imagePullPolicy: Never
    command: [/bin/sh, -c, '$command']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - {name: data, $volume}
---
END
}
wait_ready() { # SECONDS POD...
  local limit=$1
  shift
  kubectl wait --for=condition=Ready "${@/#/pod/}" --timeout="${limit}s" >/dev/null || die "not ready in $limit s: $*"
}
run_in() { # POD SHELL_COMMAND
  kubectl exec "$1" -- sh -c "$2"
}
delete_pods() { # POD...: until they are gone
  kubectl delete --timeout=60s "${@/#/pod/}" >/dev/null || die "not deleted in 60 s: $*"
}

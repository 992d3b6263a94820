# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A second node beside the first: start_second_node, in_second_node COMMAND…,
# cut_power_of_second_node, stop_second_node. Source it after support.sh.

# Images that every node shall have are archives in $WORK/nodes.
start_second_node() {
  rm -f "$WORK/log/second-node.log"
  MOORFS_SECOND_NODE=$SECOND_NODE launch second-node unshare --mount --pid --net --ipc --fork --kill-child --propagation private --mount-proc \
    "$CLUSTER/second-node" "$WORK" "$WORK"
  eventually 20 "the second node's namespaces exist" second_node_has_network
  ip link add second type veth peer name uplink netns "$(second_node_pid)"
  ip address add 10.77.4.1/30 dev second
  ip link set second up
  ip route add "$SECOND_IP/32" via 10.77.4.2 src "$NODE_IP"
  ip route add "$SECOND_NET" via 10.77.4.2 src "$NODE_IP"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  eventually 60 "the second node has started kubelet" second_node_is_up
  eventually 60 "its kubelet is healthy" in_second_node curl -sf -m 2 -o "$WORK/tmp/healthz" http://127.0.0.1:10248/healthz
  eventually 60 "the second node registers" exists node "$SECOND_NODE"
  kubectl wait --for=condition=Ready "node/$SECOND_NODE" --timeout=60s >/dev/null || die "the second node is not Ready"
}
# The first process inside: unshare's child.
second_node_pid() { cat "/proc/$(pid_of second-node)/task/$(pid_of second-node)/children" 2>/dev/null | awk '{ print $1 }'; }
second_node_has_network() {
  must_run second-node
  local pid
  pid=$(second_node_pid)
  [ -n "$pid" ] && [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]
}
second_node_is_up() { must_run second-node && grep -q '^ready' "$WORK/log/second-node.log"; }
in_second_node() { nsenter -t "$(second_node_pid)" --mount --pid --net --ipc --cgroup "$@"; }
# The kernel kills everything of its process namespace and drops the others with it.
cut_power_of_second_node() {
  kill -9 "$(second_node_pid)"
  finish second-node KILL
  # With the power go the control groups; kubelet would wait for each dead container's.
  local each
  while read -r each _; do
    find "$each/$SECOND_NODE" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(hierarchies)
  ip link delete second 2>/dev/null || true
}
stop_second_node() {
  [ -e "$WORK/pid/second-node" ] || return 0
  kill -TERM "$(second_node_pid)" 2>/dev/null || true
  finish second-node
  ip link delete second 2>/dev/null || true
}

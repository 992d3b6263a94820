# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Two nodes: a volume with an embedded engine is served by one of them, names and
# references of the two never meet, and one that loses its power comes back.

second_mountinfo() { printf '/proc/%s/mountinfo\n' "$(second_node_pid)"; }
on_node() { sed "s/^spec:/spec:\n  nodeName: $1/"; } # a pod's manifest, placed
expect_on_second() { # MOUNT_PODS TARGETS WHEN
  local try
  for try in {1..100}; do
    [ "$(references_on "$SECOND_NODE" "$(second_mountinfo)" 2>&1)" = "mount pods $1 references $2 targets $2" ] && return
    sleep 0.2
  done
  die "$3: wanted mount pods $1 references $2 targets $2 on $SECOND_NODE; there is: $(references_on "$SECOND_NODE" "$(second_mountinfo)" 2>&1)"
}
second_node_is_registered() { is_registered "$SECOND_NODE"; }

two_nodes() {
  start_second_node
  did "a second node is Ready"
  rolled_out daemonset/moorfs-node
  rolled_out daemonset/moorfs-keeper
  eventually 60 "the second kubelet has registered the driver" second_node_is_registered
  did "MoorFS is on both"
  pod here "$STATIC_VOLUME" | on_node "$NODE" | kubectl apply -f - >/dev/null
  wait_ready 60 here
  expect 1 1 "a pod on the first node"
  pod there "$STATIC_VOLUME" | on_node "$SECOND_NODE" | kubectl apply -f - >/dev/null
  eventually 60 "the second node's pod is told who holds the volume" says there "$NODE"
  did "the second node is refused, the event names the holder"
  say "    $(app_event there | cut -c1-500)"
  expect_on_second 0 0 "the second node was refused"
  writes here undisturbed
  configure "c['fileSystems']['other'] = {'meta': 'leveldb:/volumes/other/meta', 'openToPods': True}"
  local_volume other "$SECOND_NODE"
  format_volume other
  static_volume other other
  STEP_START=$EPOCHREALTIME
  pod elsewhere "$(claim_volume other)" | on_node "$SECOND_NODE" | kubectl apply -f - >/dev/null
  wait_ready 60 elsewhere
  expect 1 1 "the first node, while the second serves"
  expect_on_second 1 1 "the second node serves a volume of its own"
  [ "$(mount_pods | sed 's/^moorfs-\([0-9a-f]*\)-.*/\1/' | sort -u | wc -l)" = 2 ] || die "names clash: $(mount_pods)"
  did "each node serves its own volume: $(mount_pods | tr '\n' ' ')"
  # The holder leaves; the second may then have it, where its data can be reached.
  kubectl delete pod there --timeout=60s >/dev/null || die "the refused pod does not go"
  [ -z "${FULL:-}" ] || power_cut
  kubectl delete pod elsewhere --timeout=90s >/dev/null || die "pod elsewhere does not go"
  expect_on_second 0 0 "the second node's pod is gone"
  delete_pods here
  expect 0 0 "the first node's pod is gone"
  stop_second_node
  kubectl delete node "$SECOND_NODE" >/dev/null
  # Its pods would be collected a minute later, and their namespaces wait for them.
  kubectl -n "$SYSTEM" delete pods --field-selector "spec.nodeName=$SECOND_NODE" --force --grace-period=0 >/dev/null 2>&1
  did "both nodes are empty, the second is taken away"
}
# Everything of the node ends at once; its disk stays.
power_cut() {
  cut_power_of_second_node
  sleep 1
  start_second_node
  rolled_out daemonset/moorfs-node
  rolled_out daemonset/moorfs-keeper
  eventually 120 "the pod runs again or can be replaced" second_node_works
  did "the second node lost its power and is back"
}
second_node_works() {
  kubectl delete pod elsewhere --ignore-not-found --timeout=60s >/dev/null 2>&1
  pod elsewhere "$(claim_volume other)" | on_node "$SECOND_NODE" | kubectl apply -f - >/dev/null
  kubectl wait --for=condition=Ready pod/elsewhere --timeout=60s >/dev/null && run_in elsewhere 'echo back >/data/back && cat /data/back' >/dev/null
}

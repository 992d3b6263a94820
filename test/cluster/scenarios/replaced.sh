# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What is replaced, restarted or away while applications write: they see no error and
# no wrong byte; how long they waited at worst is printed.

TWO_WRITERS=(csi-writer flex-writer)
start_two_writers() {
  start_writer csi-writer "$STATIC_VOLUME"
  start_writer flex-writer "$FLEX_VOLUME"
  expect 1 2 "two writers"
  mark csi-writer
  mark flex-writer
  STEP_START=$EPOCHREALTIME
}
# A moment in which the writers meet what has changed.
settle() { sleep "${1:-1}"; }
agent_is_ready() { curl -sf -m 2 http://127.0.0.1:9808/readyz >/dev/null; }
delete_system_pod() { kubectl -n "$SYSTEM" delete pod "$@" --timeout=60s >/dev/null || die "not deleted: $*"; }

agent_deleted() {
  delete_system_pod "$(system_pod moorfs-node)"
  rolled_out daemonset/moorfs-node
  settle
  expect 1 2 "the agent pod was deleted"
  undisturbed "agent pod deleted, a new one is Ready" "${TWO_WRITERS[@]}"
}
agent_killed() {
  local pid
  pid=$(role_pids node)
  kill -9 "$pid"
  eventually 60 "another agent runs" other_agent "$pid"
  eventually 60 "the agent is ready" agent_is_ready
  settle
  expect 1 2 "the agent was killed"
  undisturbed "agent killed with SIGKILL, restarted by kubelet" "${TWO_WRITERS[@]}"
}
other_agent() { local now; now=$(role_pids node); [ -n "$now" ] && [ "$now" != "$1" ]; }

image_changed() {
  ctr images tag --force "$IMAGE" "$IMAGE-next" >/dev/null
  kubectl -n "$SYSTEM" set image daemonset/moorfs-node "agent=$IMAGE-next" >/dev/null
  rolled_out daemonset/moorfs-node
  [ "$(kubectl -n "$SYSTEM" get pod "$(system_pod moorfs-node)" -o 'jsonpath={.spec.containers[0].image}')" = "$IMAGE-next" ] ||
    die "the new agent has the old image"
  settle
  expect 1 2 "the DaemonSet's image was changed"
  undisturbed "DaemonSet's image changed and rolled out" "${TWO_WRITERS[@]}"
  kubectl -n "$SYSTEM" set image daemonset/moorfs-node "agent=$IMAGE" >/dev/null
  rolled_out daemonset/moorfs-node
  settle
  undisturbed "and back" "${TWO_WRITERS[@]}"
}

kubelet_restarted() {
  kill_kubelet
  settle
  start_kubelet
  eventually 30 "kubelet is healthy" kubelet_is_healthy
  eventually 60 "kubelet has registered the driver again" is_registered
  eventually 60 "kubelet knows its pods" run_in csi-writer true 2>/dev/null
  expect 1 2 "kubelet was restarted"
  undisturbed "kubelet killed with its control group, and back" "${TWO_WRITERS[@]}"
}

containerd_restarted() {
  finish containerd KILL
  settle
  start_containerd
  eventually 60 "kubelet knows its pods" run_in csi-writer true 2>/dev/null
  expect 1 2 "containerd was restarted"
  undisturbed "containerd killed, and back" "${TWO_WRITERS[@]}"
}

# A pod that goes and one whose client dies meanwhile: neither waits for the API.
api_away() { # SECONDS
  finish apiserver KILL
  sleep "$(awk -v s="$1" 'BEGIN { print s / 2 }')"
  kill -9 "$(role_pids client)"
  sleep "$(awk -v s="$1" 'BEGIN { print s / 2 }')"
  start_api
  eventually 60 "the API server is ready" api_is_ready
  settle 2
  eventually 60 "kubelet knows its pods" run_in csi-writer true 2>/dev/null
  expect 1 2 "the API server was away"
  undisturbed "API server away for $1 s, client killed meanwhile" "${TWO_WRITERS[@]}"
  # The scheduler and the node come back in their own time, which a plain pod shows.
  local begun=$EPOCHREALTIME plain
  make_pod plain 'emptyDir: {}'
  wait_ready 240 plain
  plain=$(seconds_since "$begun")
  timed_pod late "$STATIC_VOLUME"
  expect 1 3 "a pod after the API server's return"
  delete_pods plain late
  expect 1 2 "and gone"
  undisturbed "then a plain pod Ready in $plain s, one with a volume in $TOOK s" "${TWO_WRITERS[@]}"
}

keeper_deleted() {
  delete_system_pod "$(system_pod moorfs-keeper)"
  rolled_out daemonset/moorfs-keeper
  settle 2
  undisturbed "keeper pod deleted" "${TWO_WRITERS[@]}"
  # What it holds by now has to be enough for a new agent.
  delete_system_pod "$(system_pod moorfs-node)"
  rolled_out daemonset/moorfs-node
  settle
  expect 1 2 "the keeper and then the agent were deleted"
  undisturbed "then the agent pod, served by the new keeper" "${TWO_WRITERS[@]}"
}
keeper_and_agent_deleted() {
  delete_system_pod "$(system_pod moorfs-node)" "$(system_pod moorfs-keeper)"
  rolled_out daemonset/moorfs-keeper
  rolled_out daemonset/moorfs-node
  settle
  expect 1 2 "keeper and agent were deleted together"
  undisturbed "keeper and agent deleted together" "${TWO_WRITERS[@]}"
  # The new agent and the new keeper hold all there is to hold: a client may die.
  kill -9 "$(role_pids client)"
  settle
  expect 1 2 "a client died after that"
  undisturbed "then the client killed" "${TWO_WRITERS[@]}"
}

replaced() {
  start_two_writers
  settle
  undisturbed "nothing happens" "${TWO_WRITERS[@]}"
  agent_deleted
  agent_killed
  image_changed
  kubelet_restarted
  keeper_deleted
  keeper_and_agent_deleted
  api_away "$([ -n "${FULL:-}" ] && echo 120 || echo 10)"
  [ -z "${FULL:-}" ] || containerd_restarted
  end_writers "${TWO_WRITERS[@]}"
  expect 0 0 "the writers are done"
  did "both writers have verified every byte, no error in their whole life"
}

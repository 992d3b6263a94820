# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Every holder of a mount's descriptor killed at once: agent, keeper and the mount
# pod's processes. What was open is lost; what was synced is not, and the volume
# works again in the running container, which no mount of the host reaches.

sees() { [ "$(run_in app "cat /data/$1" 2>/dev/null)" = "$1" ]; }

lost() {
  local begun kept=kept pids
  timed_pod app "$STATIC_VOLUME"
  timed_pod flex "$FLEX_VOLUME"
  expect 1 2 "two pods"
  writes app "$kept"
  mapfile -t pids < <(role_pids node; role_pids keeper; role_pids supervise; role_pids client)
  [ ${#pids[@]} = 4 ] || die "wanted agent, keeper, supervisor and client: $(moorfs_processes)"
  begun=$EPOCHREALTIME
  kill -9 "${pids[@]}"
  eventually 90 "the volume works again in the running container" sees "$kept"
  say "  agent, keeper and mount pod killed at once: the path works again in the same container after $(seconds_since "$begun") s"
  run_in app 'mount | grep " /data "' | sed 's/^/    /'
  writes app after
  eventually 30 "the FlexVolume's pod sees it" run_in flex 'test "$(cat /data/after)" = after'
  expect 1 2 "all holders were killed"
  timed_pod late "$STATIC_VOLUME"
  reads late after
  expect 1 3 "and one pod more"
  delete_pods app flex late
  expect 0 0 "all pods are gone"
  did "every holder of the descriptor lost: repaired in running containers, references kept"
}

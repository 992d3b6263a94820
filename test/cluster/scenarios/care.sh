# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The commands that docs/cluster.md gives an operator for a file system in use: they
# work in its mount pod, and are refused elsewhere with the pod's name.

in_mount_pod() { kubectl -n "$MOUNTS" exec "$1" -- /usr/bin/moorfs "${@:2}"; } # POD WORD...
care() {
  local pod agent
  timed_pod user "$(claim_volume shared)"
  writes user hello
  pod=$(mount_pods)
  in_mount_pod "$pod" gc leveldb:/volumes/main/meta >"$WORK/log/gc.log" 2>&1 || die "gc in the mount pod: $(cat "$WORK/log/gc.log")"
  in_mount_pod "$pod" dump leveldb:/volumes/main/meta - >"$WORK/tmp/main.dump" 2>"$WORK/log/dump.log" || die "dump in the mount pod: $(cat "$WORK/log/dump.log")"
  grep -q hello "$WORK/tmp/main.dump" || die "the dump does not have the file: $(head -c 300 "$WORK/tmp/main.dump")"
  did "gc and dump work in the mount pod: $(stat -c %s "$WORK/tmp/main.dump") bytes of metadata"
  agent=$(system_pod moorfs-node)
  kubectl -n "$SYSTEM" exec "$agent" -- /usr/bin/moorfs flex list >"$WORK/log/list.log" 2>&1 || die "flex list: $(cat "$WORK/log/list.log")"
  grep -q '"serving"' "$WORK/log/list.log" || die "the agent's list shows no client that serves: $(cat "$WORK/log/list.log")"
  did "the agent lists its client"
  # Applied again while in use: success, nothing changed. Another command: refused by name.
  example format-job | kubectl apply -f - >/dev/null
  eventually 60 "the Job ends" job_has_ended format-main
  kubectl -n "$MOUNTS" wait --for=condition=Complete job/format-main --timeout=1s >/dev/null ||
    die "formatting again: $(kubectl -n "$MOUNTS" logs job/format-main | tail -n 2)"
  kubectl -n "$MOUNTS" logs job/format-main | grep -q 'nothing is changed' || die "formatting again: $(kubectl -n "$MOUNTS" logs job/format-main)"
  kubectl -n "$MOUNTS" delete job format-main >/dev/null
  example format-job | sed 's/name: format-main/name: fsck/; s/- format$/- fsck/; /- --store=/d; /- --name=/d; /- --if-new/d' |
    kubectl apply -f - >/dev/null
  eventually 60 "the Job ends" job_has_ended fsck
  kubectl -n "$MOUNTS" logs job/fsck | grep -q "served by mount pod $pod" || die "fsck elsewhere: $(kubectl -n "$MOUNTS" logs job/fsck)"
  kubectl -n "$MOUNTS" delete job fsck >/dev/null
  reads user hello
  delete_pods user
  expect 0 0 "no pod"
  did "format again changes nothing; another command is refused with the mount pod's name"
}
job_has_ended() { # NAME
  kubectl -n "$MOUNTS" get job "$1" -o 'jsonpath={.status.conditions[*].type}' | grep -qE 'Complete|Failed'
}

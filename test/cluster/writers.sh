# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Pods that verify every byte (writer.cc) and what they say about an interval.
# Source it after pods.sh.

# start_writer NAME VOLUME [PAUSE_US]: works in /data/NAME until it is told to end.
start_writer() {
  make_pod "$1" "$2" "mkdir -p /data/$1 && exec writer --dir /data/$1 --pause-us ${3:-3000} --seed $RANDOM"
  wait_ready 60 "$1"
  eventually 20 "the writer in pod $1 has started" writer_has_started "$1"
}
writer_has_started() { writer_log "$1" | grep -q started; }
# Its container's log on the node: kubectl would ask kubelet, which a scenario may have killed.
writer_log() { cat "$WORK"/log/pods/default_"$1"_*/main/*.log 2>/dev/null | sed 's/^[^ ]* std... F //'; }
writer_pid() { list_processes | awk -v d="/data/$1" '$2 == "writer" && $4 == d { print $1 }'; }
marks() { writer_log "$1" | grep -c '"mark"' || true; }
# mark NAME: a new interval begins; what the ended one was like is in $MARK.
mark() {
  local before
  before=$(marks "$1")
  kill -USR1 "$(writer_pid "$1")" || die "the writer of pod $1 has ended: $(writer_log "$1" | tail -n 3)"
  eventually "${2:-30}" "the writer of pod $1 answers" has_more_marks "$1" "$before"
  MARK=$(writer_log "$1" | grep '"mark"' | tail -n 1)
}
has_more_marks() { [ "$(marks "$1")" -gt "$2" ]; }
mark_field() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$MARK" "$1"; }
# undisturbed WHAT NAME...: no error and no wrong byte since the last mark; the longest stall is printed.
undisturbed() {
  local what=$1 each stall worst=0 operations=0
  shift
  for each; do
    mark "$each"
    [ "$(mark_field errors)" = 0 ] && [ "$(mark_field operations)" -gt 0 ] || die "$what: pod $each saw: $MARK"
    stall=$(mark_field longest_stall_ms)
    operations=$((operations + $(mark_field operations)))
    worst=$(awk -v a="$worst" -v b="$stall" 'BEGIN { print (a > b ? a : b) }')
  done
  did "$what: 0 errors in $operations calls, longest stall $worst ms"
}
# end_writer NAME: it verifies everything; its last line is in $TOTAL.
end_writer() {
  kill -TERM "$(writer_pid "$1")"
  eventually 60 "the writer of pod $1 ends" writer_is_done "$1"
  TOTAL=$(writer_log "$1" | grep '"total"')
}
writer_is_done() { [ "$(kubectl get pod "$1" -o 'jsonpath={.status.phase}')" != Running ] && writer_log "$1" | grep -q '"total"'; }
# end_writers NAME...: they end, without an error in their whole life.
end_writers() {
  local each
  for each; do
    end_writer "$each"
    [ "$(kubectl get pod "$each" -o 'jsonpath={.status.phase}')" = Succeeded ] || die "pod $each saw errors: $TOTAL"
  done
  delete_pods "$@"
}

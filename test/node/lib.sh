# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the process tests share: a temporary directory with everything in it
# (volume, mount point, runtime directory), helpers to ask and to wait, and a
# cleanup that runs however a test ends. Source it; then call `start NAME`.
#
# MOORFS is the binary under test.

# A reader at the end of a pipe reads all of it (no `grep -q`): a command that
# is cut off by SIGPIPE would count as failed.
set -euo pipefail
: "${MOORFS:?the moorfs binary to test}"

start() {
  TEST=$1
  T=$(mktemp -d "/tmp/moorfs-node-XXXXXX")
  chmod 755 "$T"
  export MOORFS_RUNTIME_DIR=$T/run
  META=leveldb:$T/meta STORE=file:$T/data MNT=$T/mnt
  mkdir "$MNT"
  PIDS=()
  trap finish EXIT
  trap 'exit 130' INT TERM
}

# Only what this test started is ended: its own children, and the processes
# that its runtime directory or its mounts name.
finish() {
  local rc=$?
  trap - EXIT
  set +e
  local pid
  for pid in "${PIDS[@]:-}"; do [ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null; done
  if [ $rc -ne 0 ]; then
    echo "--- $TEST failed ($rc); the log:"
    cat "$T"/run/*.log 2>/dev/null | tail -40
  fi
  local info
  for info in "$T"/run/*/info.json; do
    [ -e "$info" ] || continue
    pid=$(json keeper_pid <"$info")
    is_ours "$pid" && kill -KILL "$pid"
  done
  # In the reverse order of mounting. A lazy unmount never waits for a server.
  awk -v t="$T/" 'index($5, t) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r m; do
    umount -i -l "$m"
  done
  # Clients whose mount is gone end by themselves; one that cannot store is ours to end.
  for pid in $(our_processes); do kill -KILL "$pid" 2>/dev/null; done
  rm -rf --one-file-system "$T"
  [ $rc -eq 0 ] && echo "ok $TEST"
  exit $rc
}

fail() {
  echo "FAILED $TEST: $*" >&2
  exit 1
}

# Keepers and clients carry the test's runtime directory in their environment;
# only processes of this very binary are looked at. A kernel thread or one that
# ends meanwhile has no readable environment.
is_ours() {
  [ "/proc/$1/exe" -ef "$MOORFS" ] &&
    { tr '\0' '\n' <"/proc/$1/environ" | grep -qx "MOORFS_RUNTIME_DIR=$T/run"; } 2>/dev/null
}
our_processes() {
  local p
  for p in /proc/[0-9]*; do
    if is_ours "${p#/proc/}"; then echo "${p#/proc/}"; fi
  done
}

format() { "$MOORFS" format "$META" --store "$STORE" --name vol "$@" >/dev/null; }
mount_it() { "$MOORFS" mount "$META" "$MNT" "$@" >/dev/null; }
umount_it() { "$MOORFS" umount "$MNT" "$@"; }
is_mounted() { awk -v m="$MNT" '$5 == m { found = 1 } END { exit !found }' /proc/self/mountinfo; }

# json KEY: a member of the JSON object on stdin.
json() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
status() { "$MOORFS" status "$MNT" --json | json "$1"; }

# wait_until SECONDS COMMAND...: polls until it succeeds.
wait_until() {
  local end=$(($(date +%s) + $1))
  shift
  until "$@"; do
    [ "$(date +%s)" -lt $end ] || return 1
    sleep 0.05
  done
}

# refuses TEXT COMMAND...: the command fails, and its message holds TEXT.
refuses() {
  local text=$1 out
  shift
  if out=$("$@" 2>&1); then fail "should have been refused: $*"; fi
  case $out in
    *"$text"*) ;;
    *) fail "the message of '$*' lacks '$text': $out" ;;
  esac
}

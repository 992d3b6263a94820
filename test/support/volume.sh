# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For scripts that test a real mount: source it, call `begin NAME`, and use
#   mk_volume [format flags]   a volume of its own in $WORK
#   mount_volume [mount flags] mounts it at $MNT
#   umount_volume, remount_volume
# Everything lives below one private directory that is gone when the script
# ends, however it ends: mount, processes (only those that status named) and
# files. Exit status: 0 passed, 1 failed, 77 skipped (the reason is the last line).
#
# In: MOORFS   the binary (default: build/release/moorfs of this tree)
#     TIER     bounded (default) or full
#     REFERENCE=1  run against a plain directory instead: is it us or the test?

set -euo pipefail
shopt -s inherit_errexit

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
MOORFS=${MOORFS:-$TOP/build/release/moorfs}
TIER=${TIER:-bounded}
REFERENCE=${REFERENCE:-}
CACHE=${MOORFS_TEST_CACHE:-/var/cache/moorfs-test}
WORK=
MNT=
CLIENT_PID=
KEEPER_PID=
# A command to run first in the clean-up: stops what still uses the mount.
BEFORE_CLEANUP=:
STEP_START=$EPOCHREALTIME

say() { printf '%s\n' "$*"; }
die() { say "FAILED: $*"; exit 1; }
skip() { say "skipped: $*"; exit 77; }
# need PROGRAM PACKAGE: a missing program is a skip that names the remedy.
need() { command -v "$1" >/dev/null || skip "$1 is not installed (apt-get install $2)"; }
is_full() { [ "$TIER" = full ]; }
# Says what was done since the last call, and how long it took.
did() {
  local now=$EPOCHREALTIME
  awk -v a="$STEP_START" -v b="$now" -v t="$*" 'BEGIN { printf "  %-60s %7.1f s\n", t, b - a }'
  STEP_START=$now
}

begin() {
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/moorfs-$1.XXXXXX")
  chmod 755 "$WORK"
  MNT=$WORK/mnt
  mkdir "$MNT"
  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  if [ -z "$REFERENCE" ] && [ ! -x "$MOORFS" ]; then
    die "no $MOORFS; build it or set MOORFS"
  fi
}

is_mounted() { awk -v m="$MNT" '$5 == m { found = 1 } END { exit !found }' /proc/self/mountinfo; }

mk_volume() {
  [ -n "$REFERENCE" ] && return 0
  mkdir -p "$WORK/vol"
  "$MOORFS" format "leveldb:$WORK/vol/meta" --store "file:$WORK/vol/store" --name test "$@" >"$WORK/format.log" 2>&1 ||
    { cat "$WORK/format.log"; die "moorfs format"; }
}

# Reads a field of `moorfs status --json MNT`.
status_field() {
  timeout 30 "$MOORFS" status --json "$MNT" | python3 -c '
import json, sys
answer = json.load(sys.stdin)
while isinstance(answer, list) or (isinstance(answer, dict) and "mounts" in answer):
    answer = answer[0] if isinstance(answer, list) else answer["mounts"]
print(answer[sys.argv[1]])' "$1"
}

mount_volume() {
  [ -n "$REFERENCE" ] && return 0
  timeout 120 "$MOORFS" mount "leveldb:$WORK/vol/meta" "$MNT" "$@" >"$WORK/mount.log" 2>&1 ||
    { cat "$WORK/mount.log"; die "moorfs mount"; }
  is_mounted || die "moorfs mount returned, but $MNT is not mounted"
  CLIENT_PID=$(status_field client_pid)
  KEEPER_PID=$(status_field keeper_pid)
}

umount_volume() {
  [ -n "$REFERENCE" ] && return 0
  timeout 300 "$MOORFS" umount "$MNT" >"$WORK/umount.log" 2>&1 || { cat "$WORK/umount.log"; die "moorfs umount"; }
  if is_mounted; then die "moorfs umount returned, but $MNT is still mounted"; fi
  CLIENT_PID=''
  KEEPER_PID=''
}

# A new client with empty caches: what it reads comes from the volume.
remount_volume() {
  umount_volume
  mount_volume "$@"
}

# The volume, once unmounted, must be free of contradictions.
fsck_volume() {
  [ -n "$REFERENCE" ] && return 0
  timeout 600 "$MOORFS" fsck "leveldb:$WORK/vol/meta" >"$WORK/fsck.log" 2>&1 || { cat "$WORK/fsck.log"; die "moorfs fsck"; }
}

# Proportional set size in KiB of client and keeper.
pss_kib() {
  [ -n "$REFERENCE" ] && { echo 0; return; }
  CLIENT_PID=$(status_field client_pid)
  cat "/proc/$CLIENT_PID/smaps_rollup" "/proc/$KEEPER_PID/smaps_rollup" | awk '$1 == "Pss:" { s += $2 } END { print s }'
}

# Something failed: the mount's own words help more than ours.
show_logs() {
  local log
  for log in "$WORK"/*.log; do
    [ -s "$log" ] && { say "--- last lines of $(basename "$log")"; tail -n 15 "$log"; }
  done
  return 0
}

cleanup() {
  local status=$? pid minor
  set +e
  trap '' INT TERM
  cd /
  $BEFORE_CLEANUP
  [ "$status" -ne 0 ] && [ "$status" -ne 77 ] && show_logs
  if is_mounted; then
    if ! timeout 60 "$MOORFS" umount "$MNT" >/dev/null 2>&1; then
      minor=$(awk -v m="$MNT" '$5 == m { split($3, a, ":"); print a[2] }' /proc/self/mountinfo)
      umount -l "$MNT"
      for pid in $KEEPER_PID $CLIENT_PID; do kill -9 "$pid" 2>/dev/null; done
      [ -w "/sys/fs/fuse/connections/$minor/abort" ] && echo 1 >"/sys/fs/fuse/connections/$minor/abort"
      say "cleanup: moorfs umount failed, the mount was torn down by force"
      [ "$status" -eq 0 ] && status=1
    fi
  fi
  rm -rf --one-file-system "$WORK"
  exit "$status"
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs exactly_once on LevelDB, Redis and etcd: real servers of this machine's
# packages, on loopback, below a temporary directory that goes away with them.
#
#   test/experiments/exactly_once.sh [TRIALS (1000)]
#
# Environment: BUILD (directory with test/experiments/exactly_once).
set -u
here=$(cd "$(dirname "$0")" && pwd)
EXACTLY_ONCE=${EXACTLY_ONCE:-${BUILD:-$here/../../build/release}/test/experiments/exactly_once}
trials=${1:-1000}
work=$(mktemp -d "${TMPDIR:-/tmp}/moorfs-once.XXXXXX")
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
port=$((20000 + $$ % 20000))

echo "| engine | way | kills | COMMITs of the dead that took effect | answered from the record | executed by the successor | doubled | errors to the application | wrong state |"
echo "|---|---|---|---|---|---|---|---|---|"
"$EXACTLY_ONCE" leveldb "$trials" "$work/leveldb" || exit 1

redis-server --port $port --bind 127.0.0.1 --dir "$work" --save '' --appendonly yes --appendfsync always >"$work/redis.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do redis-cli -p $port ping >/dev/null 2>&1 && break; sleep 0.05; done
"$EXACTLY_ONCE" redis "$trials" $port || { tail -3 "$work/redis.log"; exit 1; }

client=http://127.0.0.1:$((port + 1)) peer=http://127.0.0.1:$((port + 2))
etcd --data-dir "$work/etcd" --listen-client-urls "$client" --advertise-client-urls "$client" \
  --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" >"$work/etcd.log" 2>&1 &
pids+=($!)
for _ in $(seq 200); do curl -s "$client/health" | grep -q true && break; sleep 0.05; done
"$EXACTLY_ONCE" etcd "$trials" $((port + 1)) || { tail -3 "$work/etcd.log"; exit 1; }

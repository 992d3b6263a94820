#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# SIGKILL of the client, again and again, under load: applications notice
# nothing but a short wait.
. "$(dirname "$0")/lib.sh"
start client_death

format
mount_it
cat >"$T/load.py" <<'P'
import hashlib, os, sys, time
root, me, end = sys.argv[1], sys.argv[2], time.time() + float(sys.argv[3])
os.makedirs(f"{root}/{me}")
n = worst = 0
held = open(f"{root}/{me}/held", "w+b", buffering=0)
while time.time() < end:
    began = time.time()
    name = f"{root}/{me}/{n}"
    data = hashlib.sha256(name.encode()).digest() * 200
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)   # not twice, not lost
    os.write(fd, data)
    os.close(fd)
    os.rename(name, name + ".r")
    with open(name + ".r", "rb") as f:
        assert f.read() == data, name
    if n % 3 == 0:
        os.unlink(name + ".r")
    held.seek(0)
    held.write(b"%d" % n)
    worst = max(worst, time.time() - began)
    n += 1
left = sorted(os.listdir(f"{root}/{me}"))
assert len(left) == n - (n + 2) // 3 + 1, (n, len(left))
print(f"{n} rounds, the slowest {worst * 1000:.0f} ms")
P
loads=()
for i in 1 2; do
  python3 "$T/load.py" "$MNT" "$i" 15 >"$T/out.$i" 2>&1 &
  PIDS+=($!)
  loads+=($!)
done
kills=0
serving() { [ "$(status state)" = serving ] && [ "$(status client_pid)" != "$1" ]; }
while [ $kills -lt 20 ]; do
  pid=$(status client_pid)
  is_ours "$pid" || fail "client_pid $pid is not the client"
  kill -KILL "$pid"
  kills=$((kills + 1))
  wait_until 10 serving "$pid" || fail "no successor after kill $kills"
  sleep 0.2
done
for l in "${loads[@]}"; do wait "$l" || fail "the load failed: $(cat "$T"/out.*)"; done
cat "$T"/out.*
[ "$(status restarts)" -ge 20 ] || fail "status counts $(status restarts) restarts"
umount_it
"$MOORFS" fsck "$META" >/dev/null || fail "fsck finds damage after $kills kills"

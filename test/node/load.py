#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# load.py DIRECTORY NAME SECONDS: creates, writes, renames, reads and unlinks
# files in DIRECTORY/NAME and checks every answer. Ends early, in order, when
# DIRECTORY.stop appears beside the mount. Prints the longest round.
import hashlib
import os
import sys
import time

root, me, end = sys.argv[1], sys.argv[2], time.time() + float(sys.argv[3])
os.makedirs(f"{root}/{me}")
n = worst = 0
held = open(f"{root}/{me}/held", "w+b", buffering=0)
while time.time() < end and not os.path.exists(root + ".stop"):
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

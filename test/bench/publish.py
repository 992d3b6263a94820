#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# How long a publish takes: the first of a volume, which starts its client, and
# the next, which finds it serving. Printed, not judged: the machine decides.
#
# In: MOORFS, MOUNT_DRIVER; N (default 50).

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../doors"))
from node import Node, check  # noqa: E402

N = int(os.environ.get("N", 50))


def show(what, times):
    times = sorted(times)
    print("%-34s p50 %6.1f ms   p90 %6.1f ms   max %6.1f ms" % (
        what, times[len(times) // 2], times[len(times) * 9 // 10], times[-1]))


def took(answer):
    check(answer is not None and answer.startswith("ok "), answer)
    return int(answer.split(" us=")[1]) / 1000


with Node("publish") as node:
    meta, agent = node.volume(), node.agent()
    first = []
    for _ in range(N):
        first.append(took(agent.ask("publish %s %s id=v" % (node.target("a"), meta))))
        check(agent.ask("unpublish " + node.target("a")) == "ok", "unpublish")
    show("publish, first of a volume", first)
    took(agent.ask("publish %s %s id=v" % (node.target("a"), meta)))
    show("publish, next", [took(agent.ask("publish %s %s id=v" % (node.target("t%d" % i), meta))) for i in range(N)])
    show("publish, repeated", [took(agent.ask("publish %s %s id=v" % (node.target("a"), meta))) for i in range(N)])
    with open("/proc/%d/smaps_rollup" % agent.process.pid, encoding="ascii") as f:
        pss = [line.split()[1] for line in f if line.startswith("Pss:")][0]
    print("manager: PSS %.1f MiB, %s" % (int(pss) / 1024, agent.ask("threads")))
    # The peer's client is a pod each time; its figures are not of this run.
    print("for comparison, JuiceFS CSI 0.32 on such a machine: pod Running 15.7 s with a new mount pod, "
          "1.0-1.9 s with a present one; driver 55 MB resident")
    for i in range(N):
        check(agent.ask("unpublish " + node.target("t%d" % i)) == "ok", "unpublish")

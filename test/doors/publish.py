#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Publishing and unpublishing with a real client: sharing, repeating, refusing.

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import check, run, wait_until  # noqa: E402


def two_targets(node):
    """two targets share one client, released in both orders"""
    meta, agent = node.volume(), node.agent()
    for order in ((0, 1), (1, 0)):
        targets = [node.target("a"), node.target("b")]
        first = agent.ask("publish %s %s id=v" % (targets[0], meta))
        second = agent.ask("publish %s %s id=v" % (targets[1], meta))
        check(first.startswith("ok ") and second.startswith("ok "), (first, second))
        check(first.split()[1] == second.split()[1], "two clients: %s, %s" % (first, second))
        check(len(node.pids("client")) == 1, "clients: %s" % node.processes())
        with open(targets[0] + "/file", "w", encoding="utf-8") as f:
            f.write("shared")
        with open(targets[1] + "/file", encoding="utf-8") as f:
            check(f.read() == "shared", "the other target has other contents")
        check(node.consistent() == "", node.consistent())
        check(agent.ask("unpublish " + targets[order[0]]) == "ok", "unpublish")
        check(len(node.pids("client")) == 1, "the client ended with a reference left")
        check(node.consistent() == "", node.consistent())
        check(agent.ask("unpublish " + targets[order[1]]) == "ok", "unpublish")
        wait_until(5, lambda: node.consistent() == "", "all is gone: " + node.consistent())
        check(not node.empty_directories(), "directories are left: %s" % node.empty_directories())
        check(not os.listdir(node.path("state/mounts")), "sources are left")


if __name__ == "__main__":
    run([two_targets])

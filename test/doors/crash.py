#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# The manager dies by SIGKILL after each numbered step (core.h). A new one
# starts; then the three views agree, nothing is left that nobody asked for, and
# repeating the call succeeds.

import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import check, run, wait_until  # noqa: E402

PUBLISH = ["publish-%d" % n for n in range(1, 9)] + ["generation-2", "generation-3"]
UNPUBLISH = ["unpublish-%s" % n for n in ("1", "2", "3", "4", "5a", "5b", "5c")]
GENERATION = ["generation-%d" % n for n in range(1, 6)]
# From here on the mount is there: the reference stays.
MOUNTED = ("publish-7", "publish-8")


def die(node, step, line):
    agent = node.agent(crash_at=step)
    answer = agent.ask(line)
    check(answer is None, "%s: the manager lives and says %s" % (step, answer))
    agent.kill()


def publish_steps(node):
    """publish of the first target dies after each step and converges"""
    meta = node.volume()
    target = node.target("a")
    for step in PUBLISH:
        die(node, step, "publish %s %s ro id=v" % (target, meta))
        agent = node.agent()
        node.converges(agent)
        wanted = [target] if step in MOUNTED else []
        check(node.references() == wanted, "%s: references %s" % (step, node.references()))
        check(not node.empty_directories(), "%s: a directory is left" % step)
        answer = agent.ask("publish %s %s ro id=v" % (target, meta))
        check(answer.startswith("ok "), "%s, then publish: %s" % (step, answer))
        check(("already" in answer) == (step in MOUNTED), "%s, then publish: %s" % (step, answer))
        check(all("ro" in options.split(",") for _, options in node.mounts()), "%s: it is writable" % step)
        check(agent.ask("unpublish " + target) == "ok", "unpublish")
        node.converges(agent)
        check(not node.processes() and not node.records(), "%s: something is left" % step)
        agent.kill()


def second_publish_steps(node):
    """publish of a second target dies after each step and leaves the first alone"""
    meta = node.volume()
    first, second = node.target("a"), node.target("b")
    agent = node.agent()
    check(agent.ask("publish %s %s id=v" % (first, meta)).startswith("ok "), "publish")
    client = node.pids("client")
    agent.kill()
    for step in PUBLISH[:8]:
        die(node, step, "publish %s %s id=v" % (second, meta))
        agent = node.agent()
        node.converges(agent)
        check(node.references() == ([first, second] if step in MOUNTED else [first]), step)
        check(agent.ask("unpublish " + second) == "ok", step)
        check(node.pids("client") == client, "%s: another client serves" % step)
        agent.kill()


def unpublish_steps(node):
    """unpublish of the last target dies after each step and converges"""
    meta = node.volume()
    target = node.target("a")
    for step in UNPUBLISH:
        agent = node.agent()
        check(agent.ask("publish %s %s id=v" % (target, meta)).startswith("ok "), "publish")
        agent.kill()
        die(node, step, "unpublish " + target)
        agent = node.agent()
        node.converges(agent)
        still = step == "unpublish-1"
        check(node.references() == ([target] if still else []), "%s: %s" % (step, node.references()))
        check(agent.ask("unpublish " + target) == "ok", step)
        node.converges(agent)
        check(not node.processes() and not node.records() and not node.empty_directories(), "%s: left" % step)
        agent.kill()


def unpublish_before_repair(node):
    """a repeated unpublish right after the restart needs no repair first"""
    meta = node.volume()
    target = node.target("a")
    for step in UNPUBLISH + list(MOUNTED):
        if step.startswith("unpublish"):
            agent = node.agent()
            check(agent.ask("publish %s %s id=v" % (target, meta)).startswith("ok "), "publish")
            agent.kill()
            die(node, step, "unpublish " + target)
        else:
            die(node, step, "publish %s %s id=v" % (target, meta))
        agent = node.agent()
        check(agent.ask("unpublish " + target) == "ok", step)
        node.converges(agent)
        agent.kill()


def generation_steps(node):
    """a new generation over dead mounts dies after each step and converges"""
    meta = node.volume()
    targets = [node.target("a"), node.target("b")]
    agent = node.agent()
    for target in targets:
        check(agent.ask("publish %s %s id=v" % (target, meta)).startswith("ok "), "publish")
    agent.kill()
    for step in GENERATION:
        for pid in node.pids("keeper") + node.pids("client"):
            os.kill(pid, signal.SIGKILL)
        wait_until(10, lambda: not node.processes(), "keeper and client are gone")
        agent = node.agent(crash_at=step)
        wait_until(30, lambda: agent.process.poll() is not None, "the manager dies at " + step)
        agent.kill()
        agent = node.agent()
        node.converges(agent)
        check(node.references() == sorted(targets), step)
        check(len(node.mounts()) <= 2 * len(targets), "%s: too many layers: %s" % (step, node.mounts()))
        check(len(node.sources()) == 1, "%s: sources %s" % (step, node.sources()))
        agent.kill()
    agent = node.agent()
    for target in targets:
        check(agent.ask("unpublish " + target) == "ok", "unpublish")
    node.converges(agent)
    check(not node.processes() and not node.records(), "something is left")


if __name__ == "__main__":
    run([publish_steps, second_publish_steps, unpublish_steps, unpublish_before_repair, generation_steps])

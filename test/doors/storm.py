#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# A thousand calls at once on one volume, the manager killed at random and
# started again. After each round references equal mounts; one target is held
# all the time by a reader with an open file, whose client must never change.
# In a second part nothing holds the client, so that it starts and ends all the
# time.
#
# In: ROUNDS (default 2) per part, THREADS (200), CALLS per thread (5), SEED.

import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import check, run  # noqa: E402

ROUNDS, THREADS, CALLS = (int(os.environ.get(k, v)) for k, v in (("ROUNDS", 2), ("THREADS", 200), ("CALLS", 5)))
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(10000)))


def storm(node, held, threads):
    chance = random.Random(SEED)
    meta = node.volume()
    kills = calls = 0
    client = None
    for number in range(ROUNDS):
        agent = node.agent()
        if held and number == 0:
            answer = agent.ask("publish %s %s id=storm" % (node.target("held"), meta))
            check(answer.startswith("ok "), answer)
            client = node.pids("client")
            file = open(node.target("held") + "/file", "w+b", buffering=0)
        for part in range(4):
            agent.send("storm %d %d %d %s %s" % (SEED + 10 * number + part, threads, CALLS, meta, node.kubelet))
            if part < 3:
                time.sleep(chance.random() * 1.5)
                agent.kill()
                kills += 1
                agent = node.agent()
            else:
                answer = agent.line(240)
                check(answer is not None and answer.startswith("storm "), answer)
                check(" failed=0 " in answer, "seed %d: %s" % (SEED, answer))
            calls += threads * CALLS
        node.converges(agent, 60)
        if held:
            check(node.target("held") in node.references(), "the held target lost its reference")
            check(node.pids("client") == client, "a live client was removed: %s" % node.processes())
            file.write(b"round %d\n" % number)
            os.fsync(file.fileno())
        agent.kill()
    agent = node.agent()
    if held:
        file.close()
    for target in node.references():
        check(agent.ask("unpublish " + target) == "ok", "unpublish " + target)
    node.converges(agent, 60)
    check(not node.records() and not node.processes() and not node.empty_directories(), "something is left")
    print("  seed %d: %d rounds, up to %d calls, %d kills of the manager" % (SEED, ROUNDS, calls, kills))


def held_client(node):
    """storm on a volume that is always in use: references equal mounts, the client stays"""
    storm(node, True, THREADS)


def ending_client(node):
    """storm of few callers on a volume that starts and ends all the time"""
    storm(node, False, 4)


if __name__ == "__main__":
    run([held_client, ending_client])

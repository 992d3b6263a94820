#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Clients that died or hang, agents that meet, services that are restarted.

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import Agent, check, mountinfo, run, wait_until  # noqa: E402


def ok(answer):
    check(answer is not None and answer.startswith("ok"), "answer: %s" % answer)
    return answer


def kill_all(node):
    killed = set(node.pids("keeper") + node.pids("client"))
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    # Successors may be there already.
    wait_until(10, lambda: not killed & set(node.pids("keeper") + node.pids("client")), "keeper and client are gone")


def answers(path):
    try:
        os.statvfs(path)
        return True
    except OSError:
        return False


def repaired_by_itself(node):
    """a client that died with its keeper is replaced, and its targets work again"""
    meta, agent = node.volume(), node.agent()
    targets = [node.target(n) for n in "abc"]
    for t in targets:
        ok(agent.ask("publish %s %s id=v" % (t, meta)))
    with open(targets[0] + "/file", "w", encoding="utf-8") as f:
        f.write("kept")
        f.flush()
        os.fsync(f.fileno())
    for round_number in range(3):
        kill_all(node)
        wait_until(15, lambda: all(answers(t) for t in targets), "targets work again, round %d" % round_number)
        # One dead mount at the bottom, the live one on top, however often.
        for t in targets:
            check(sum(m[0] == t for m in node.mounts()) == 2, "layers: %s" % node.mounts())
    with open(targets[2] + "/file", encoding="utf-8") as f:
        check(f.read() == "kept", "what was stored is lost")
    wait_until(10, lambda: len(node.sources()) == 1, "one source is left: %s" % node.sources())
    for t in targets:
        ok(agent.ask("unpublish " + t))
    node.converges(agent)
    check(not node.processes() and not node.records() and not node.empty_directories(), "something is left")


def running_containers(node):
    """a container that mounts do not reach from outside gets the live mount too, its subPath read-only as it was"""
    meta, agent = node.volume(), node.agent()
    target = node.target("a")
    ok(agent.ask("publish %s %s id=v" % (target, meta)))
    os.makedirs(target + "/sub/path")
    with open(target + "/sub/path/file", "w", encoding="utf-8") as f:
        f.write("kept")
        f.flush()
        os.fsync(f.fileno())
    sub = node.path("inside")
    os.makedirs(sub)
    container = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c",
         'mount --bind "$1/sub/path" "$2" && mount -o remount,bind,ro "$2" && touch "$3" && exec sleep 1000',
         "sh", target, sub, sub + ".ready"])

    def inside(*words):
        return subprocess.run(["nsenter", "-t", str(container.pid), "-m", *words], capture_output=True, text=True,
                              timeout=20, check=False)

    try:
        wait_until(10, lambda: os.path.exists(sub + ".ready"), "the container runs")
        check(inside("cat", sub + "/file").stdout == "kept", "the container does not see its file")
        for round_number in range(2):
            kill_all(node)
            wait_until(15, lambda: inside("cat", sub + "/file").stdout == "kept",
                       "the container sees its file again, round %d" % round_number)
            wait_until(15, lambda: inside("cat", target + "/sub/path/file").stdout == "kept", "and the whole volume")
        check(inside("touch", sub + "/new").returncode != 0, "the read-only subPath can be written")
        check(inside("touch", target + "/new").returncode == 0, "the volume cannot be written in the container")
        check(answers(target), "the target itself is dead")
    finally:
        container.kill()
        container.wait()
    ok(agent.ask("unpublish " + target))
    node.converges(agent)
    check(not node.processes() and not node.records(), "something is left")


def dead_client_at_publish(node):
    """publish at a target whose client is dead gives a live mount"""
    meta = node.volume()
    agent = node.agent()
    target = node.target("a")
    ok(agent.ask("publish %s %s ro id=v" % (target, meta)))
    agent.kill()
    kill_all(node)
    check(not answers(target), "the target should be dead")
    agent = node.agent()
    # Its repair and this call meet; either order is fine.
    ok(agent.ask("publish %s %s ro id=v" % (target, meta)))
    check(answers(target), "the target is dead")
    check("ro" in node.mounts()[-1][1].split(","), "the repaired target is writable: %s" % node.mounts())
    ok(agent.ask("publish %s %s id=v" % (node.target("b"), meta)))
    node.converges(agent)


def keeper_death_is_survived(node):
    """a client without its keeper serves on and takes new targets"""
    meta, agent = node.volume(), node.agent()
    ok(agent.ask("publish %s %s" % (node.target("a"), meta)))
    client = node.pids("client")
    os.kill(node.pids("keeper")[0], signal.SIGKILL)
    wait_until(5, lambda: not node.pids("keeper"), "the keeper is gone")
    ok(agent.ask("publish %s %s" % (node.target("b"), meta)))
    check(node.pids("client") == client, "another client serves")
    ok(agent.ask("unpublish " + node.target("a")))
    ok(agent.ask("unpublish " + node.target("b")))
    node.converges(agent)


def stopped_client(node):
    """a stopped client: 1,000 questions, few threads, answers in time, others unaffected"""
    meta, other = node.volume("one"), node.volume("two")
    agent = node.agent()
    ok(agent.ask("publish %s %s" % (node.target("a"), meta)))
    stopped = node.pids("client")[0]
    ok(agent.ask("publish %s %s" % (node.target("b"), other)))
    healthy = agent.ask("stats %s 2000" % node.target("a"))
    check("abnormal=0" in healthy, healthy)
    total = healthy.split()[1]
    before = int(agent.ask("threads").split()[1])
    os.kill(stopped, signal.SIGSTOP)
    worst = 0
    begin = time.time()
    for i in range(1000):
        answer = agent.ask("stats %s 300" % node.target("a"))
        check("abnormal=1" in answer and total in answer, "question %d: %s" % (i, answer))
        worst = max(worst, int(answer.split(" ms=")[1].split()[0]))
        if i % 100 == 0:
            fine = agent.ask("stats %s 2000" % node.target("b"))
            check("abnormal=0" in fine and int(fine.split(" ms=")[1].split()[0]) < 300, "the other volume: " + fine)
    check(worst < 600, "an answer took %d ms" % worst)
    check(int(agent.ask("threads").split()[1]) == before, "threads grew")
    print("  1,000 questions to a stopped client: %.1f s, the longest %d ms" % (time.time() - begin, worst))
    ok(agent.ask("publish %s %s" % (node.target("c"), other)))
    ok(agent.ask("unpublish " + node.target("c")))
    # Its own: nothing that needs its answer blocks past the deadline.
    begin = time.time()
    ok(agent.ask("publish %s %s" % (node.target("a"), meta)))
    ok(agent.ask("unpublish " + node.target("b")))
    check(time.time() - begin < 5, "calls waited for the stopped client")
    os.kill(stopped, signal.SIGCONT)
    wait_until(5, lambda: "abnormal=0" in agent.ask("stats %s 1000" % node.target("a")), "it is healthy again")
    ok(agent.ask("unpublish " + node.target("a")))
    node.converges(agent)


def stopped_client_at_publish(node):
    """binding a directory of a stopped client ends at the deadline"""
    meta, agent = node.volume(), node.agent()
    ok(agent.ask("publish %s %s" % (node.target("a"), meta)))
    os.makedirs(node.target("a") + "/d/e")
    client = node.pids("client")[0]
    os.kill(client, signal.SIGSTOP)
    begin = time.time()
    answer = agent.ask("publish %s %s subdir=d/e timeout=1500" % (node.target("b"), meta))
    check(answer.startswith("error ETIMEDOUT"), answer)
    check(time.time() - begin < 8, "it took %.1f s" % (time.time() - begin))
    os.kill(client, signal.SIGCONT)
    node.converges(agent)
    ok(agent.ask("publish %s %s subdir=d/e" % (node.target("b"), meta)))
    check(node.consistent() == "", node.consistent())


def shared_parents(node):
    """where everything is mounted shared, a repair of one target reaches no other"""
    for folder in ("kubelet", "state"):
        os.makedirs(node.path(folder), exist_ok=True)
        subprocess.run(["mount", "--bind", node.path(folder), node.path(folder)], check=True)
        subprocess.run(["mount", "--make-shared", node.path(folder)], check=True)
    meta, agent = node.volume(), node.agent()
    targets = [node.target(n) for n in "abc"]
    for t in targets:
        ok(agent.ask("publish %s %s" % (t, meta)))
    source = node.sources()[0][2]

    def shared():
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            return [line for line in f if " %s " % source in line and " shared:" in line]
    check(not shared(), "the client's mount is shared")
    agent.kill()
    # As a mount namespace of a new container may have it.
    subprocess.run(["mount", "--make-shared", source], check=True)
    agent = node.agent()
    check(not shared(), "the client's mount stays shared after a restart")
    for _ in range(2):
        kill_all(node)
        wait_until(15, lambda: all(answers(t) for t in targets), "targets work again")
        for t in targets:
            check(sum(m[0] == t for m in node.mounts()) == 2, "layers: %s" % node.mounts())
        wait_until(10, lambda: len(node.sources()) == 1, "one source is left: %s" % node.sources())
        source = node.sources()[0][2]
    for t in targets:
        ok(agent.ask("unpublish " + t))
    node.converges(agent)


def spelled_root(node):
    """a kubelet root behind a symlink, spelled either way by successive agents"""
    meta = node.volume()
    real = node.kubelet
    link = node.path("link")
    os.symlink(real, link)
    node.kubelet = link + "/"
    agent = node.agent()
    ok(agent.ask("publish %s/pods/a/mount %s" % (link, meta)))
    check(" already " in ok(agent.ask("publish %s/pods/a/mount %s" % (real, meta))), "two spellings, two targets")
    agent.kill()
    node.kubelet = real
    agent = node.agent()
    node.converges(agent)
    check(" already " in ok(agent.ask("publish %s/pods/a/mount %s" % (real, meta))), "not recognised")
    ok(agent.ask("unpublish %s/pods/a/mount" % real))
    node.converges(agent)
    check(not node.processes(), "the client is left")


def two_agents(node):
    """a second agent on the same state is refused and names the first"""
    meta, agent = node.volume(), node.agent()
    ok(agent.ask("publish %s %s" % (node.target("a"), meta)))
    second = Agent(node)
    check(second.first.startswith("failed EBUSY") and "pid %d" % agent.process.pid in second.first, second.first)
    second.kill()
    ok(agent.ask("unpublish " + node.target("a")))
    agent.kill()
    node.agent()


def cgroup_killed(node):
    """ending the agent's whole cgroup leaves its clients alive"""
    base = next((m for m in mountinfo() if os.path.exists(m[2] + "/cgroup.procs")), None)
    check(base, "no cgroup hierarchy is mounted; mount one at /sys/fs/cgroup")
    roots = [m[2] for m in mountinfo() if os.path.exists(m[2] + "/cgroup.procs")]
    groups = [os.path.join(root, "moorfs-test-%d" % os.getpid()) for root in roots]
    made = []
    try:
        for group in groups:
            os.mkdir(group)
            made.append(group)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if os.path.exists(os.path.join(group, name)):
                    with open(os.path.join(os.path.dirname(group), name), encoding="ascii") as f:
                        value = f.read()
                    with open(os.path.join(group, name), "w", encoding="ascii") as f:
                        f.write(value)

        def enter():
            for group in made:
                with open(group + "/cgroup.procs", "w", encoding="ascii") as f:
                    f.write("0")
        meta = node.volume()
        agent = node.agent(before=enter)
        ok(agent.ask("publish %s %s" % (node.target("a"), meta)))
        for group in made:
            with open(group + "/cgroup.procs", encoding="ascii") as f:
                inside = f.read().split()
            check(inside == [str(agent.process.pid)], "in %s: %s, agent %d" % (group, inside, agent.process.pid))
        before = node.processes()
        # As systemd does it.
        for group in made:
            with open(group + "/cgroup.procs", encoding="ascii") as f:
                for pid in f.read().split():
                    os.kill(int(pid), signal.SIGKILL)
        agent.kill()
        check(node.processes() == before and answers(node.target("a")), "the client died with the agent")
        agent = node.agent()
        ok(agent.ask("unpublish " + node.target("a")))
        node.converges(agent)
    finally:
        for group in made:
            for _ in range(100):
                try:
                    os.rmdir(group)
                    break
                except OSError:
                    time.sleep(0.05)


def reboot(node):
    """records of before a reboot are forgotten"""
    meta, agent = node.volume(), node.agent()
    ok(agent.ask("publish %s %s" % (node.target("a"), meta)))
    agent.kill()
    # A reboot: no process, no mount, another boot id in the record.
    kill_all(node)
    for m in reversed(mountinfo()):
        if m[2].startswith(node.top + "/"):
            subprocess.run(["umount", "-l", m[2]], check=True)
    key = next(iter(node.records()))
    path = node.path("state/clients", key + ".json")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        boot = f.read().strip()
    check(boot in text, "the record has no boot id")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(boot, "another"))
    agent = node.agent()
    node.converges(agent)
    check(not node.records() and not node.references(), "references of before the reboot are kept")
    ok(agent.ask("publish %s %s" % (node.target("a"), meta)))
    check(node.consistent() == "", node.consistent())


def lost_records(node):
    """lost or damaged records are made again from the mount table"""
    meta = node.volume()
    for damage in ("remove", "garbage"):
        agent = node.agent()
        for n in "ab":
            ok(agent.ask("publish %s %s id=v ro" % (node.target(n), meta)))
        client = node.pids("client")
        agent.kill()
        path = node.path("state/clients", next(iter(node.records())) + ".json")
        if damage == "remove":
            os.unlink(path)
        else:
            with open(path, "w", encoding="utf-8") as f:
                f.write("{ \"format\": 1, garbage")
        agent = node.agent()
        node.converges(agent)
        check(node.references() == [node.target("a"), node.target("b")], node.references())
        check("already" in ok(agent.ask("publish %s %s id=v ro" % (node.target("a"), meta))), "not recognised")
        check(node.pids("client") == client, "another client serves")
        for n in "ab":
            ok(agent.ask("unpublish " + node.target(n)))
        node.converges(agent)
        agent.kill()


if __name__ == "__main__":
    run([repaired_by_itself, running_containers, dead_client_at_publish, keeper_death_is_survived, stopped_client,
         stopped_client_at_publish, shared_parents, spelled_root, two_agents, cgroup_killed, reboot, lost_records])

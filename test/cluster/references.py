#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the references that mount pods carry with what is mounted.

  kubectl get pods -n moorfs-mounts -o json | references.py NODE MOUNTINFO

MOUNTINFO is of a process of that node. Prints "mount pods N references N targets N",
then a line for each difference, and exits 1 when there is one: a reference without its
mount, a mount without its reference, a target of another client than its pod's record
says, two pods that hold the same reference."""

import hashlib
import json
import re
import sys

KUBELET_ROOT = "/var/lib/kubelet"


def targets(mountinfo):
    """Path -> device of the uppermost FUSE mount at each target."""
    found = {}
    with open(mountinfo, encoding="utf-8") as lines:
        for line in lines:
            words, _, rest = line.partition(" - ")
            _, _, device, _, path, *_ = words.split()
            path = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), path)
            if path.startswith(KUBELET_ROOT + "/pods/") and "/volume-subpaths/" not in path and rest.startswith("fuse"):
                found[path] = device
    return found


def main():
    node, mountinfo = sys.argv[1:]
    pods = [pod for pod in json.load(sys.stdin)["items"]
            if pod["metadata"]["labels"].get("app.kubernetes.io/name") == "moorfs-mount"
            and pod["metadata"]["labels"].get("moorfs.io/node") == node]
    differences, references = [], {}
    for pod in pods:
        meta = pod["metadata"]
        annotations = meta.get("annotations", {})
        client = json.loads(annotations.get("moorfs.io/client", "{}"))
        for name, value in annotations.items():
            if not name.startswith("moorfs.io/ref-"):
                continue
            path = value if value.startswith("/") else f"{KUBELET_ROOT}/{value}"
            if name != "moorfs.io/ref-" + hashlib.sha256(path.encode()).hexdigest()[:40]:
                differences.append(f"{meta['name']}: {name} is not the hash of {path}")
            if path in references:
                differences.append(f"{path}: in {meta['name']} and {references[path][0]}")
            references[path] = (meta["name"], client.get("device", ""))
    mounted = targets(mountinfo)
    for path, (name, device) in references.items():
        if path not in mounted:
            differences.append(f"{name}: reference without its mount: {path}")
        elif device and mounted[path] != device:
            differences.append(f"{name}: {path} is of device {mounted[path]}, its client's is {device}")
    differences += [f"mount without its reference: {path}" for path in mounted if path not in references]
    print(f"mount pods {len(pods)} references {len(references)} targets {len(mounted)}")
    print("\n".join(differences), end="\n" if differences else "")
    sys.exit(1 if differences else 0)


main()

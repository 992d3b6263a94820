#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts and deletes pods at random over several volumes, kills the node agent and
breaks its connection to the API server meanwhile.

  storm.py KUBECONFIG --pods N --volumes FS… [--parallel N] [--seed N] [--control HOST:PORT]
           [--kill-every SECONDS]

Each pod is a writer that verifies its bytes and ends by itself, or is deleted before.
The volume FS is reached through the claim static-FS or as a FlexVolume. Prints what
happened; exits 1 when an application saw an error, or a mount pod was deleted while
it carried a reference."""

import argparse
import http.client
import json
import os
import random
import re
import ssl
import sys
import threading
import time
import urllib.request

NAMESPACE, MOUNTS, SYSTEM = "default", "moorfs-mounts", "moorfs-system"
FAULTS = [
    [{"kind": "answer", "code": 409, "p": 0.3, "method": "PATCH|DELETE"}],
    [{"kind": "answer", "code": 500, "p": 0.3}],
    [{"kind": "answer", "code": 503, "p": 0.5, "after": True, "method": "PATCH|POST|DELETE"}],
    [{"kind": "answer", "code": 429, "p": 0.3, "retry_after": 1}],
    [{"kind": "drop-before", "p": 0.3}],
    [{"kind": "drop-after", "p": 0.3, "watch": False}],
    [{"kind": "break", "watch": True, "min_ms": 100, "max_ms": 1500}],
    [{"kind": "expire", "watch": True, "p": 0.7}],
    [{"kind": "cut", "p": 0.3}],
    [{"kind": "delay", "min_ms": 50, "max_ms": 400}],
    [],
]


class Api:
    def __init__(self, kubeconfig):
        with open(kubeconfig, encoding="utf-8") as file:
            text = file.read()
        server, ca, token = (re.search(f'{each}: "([^"]+)"', text)[1] for each in ("server", "certificate-authority", "token"))
        self.host = server.removeprefix("https://")
        self.context = ssl.create_default_context(cafile=ca)
        self.headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}

    def request(self, method, path, body=None, timeout=30):
        connection = http.client.HTTPSConnection(self.host, context=self.context, timeout=timeout)
        connection.request(method, path, json.dumps(body) if body is not None else None, self.headers)
        return connection.getresponse()

    def call(self, method, path, body=None):
        answer = self.request(method, path, body)
        data = json.loads(answer.read())
        if answer.status >= 400 and answer.status != 404:
            raise RuntimeError(f"{method} {path}: {answer.status} {data.get('message')}")
        return data if answer.status < 400 else None

    def watch(self, path, on_event):
        while True:
            try:
                for line in self.request("GET", path + "watch=1&timeoutSeconds=3600", timeout=3700):
                    on_event(json.loads(line))
            except (OSError, ValueError, http.client.HTTPException):
                time.sleep(0.2)


def references(pod):
    return [name for name in pod["metadata"].get("annotations", {}) if name.startswith("moorfs.io/ref-")]


class Observer:
    """Sees every change of a mount pod: one that carries references must not be deleted."""

    def __init__(self, api):
        self.lock, self.doomed, self.made, self.violations = threading.Lock(), set(), set(), []
        path = f"/api/v1/namespaces/{MOUNTS}/pods?labelSelector=app.kubernetes.io%2Fname%3Dmoorfs-mount&"
        threading.Thread(target=api.watch, args=(path, self.see), daemon=True).start()

    def see(self, event):
        pod = event["object"]
        meta = pod.get("metadata", {})
        if "uid" not in meta:
            return
        with self.lock:
            self.made.add(meta["uid"])
            going = "deletionTimestamp" in meta or event["type"] == "DELETED"
            if going and meta["uid"] not in self.doomed:
                self.doomed.add(meta["uid"])
                if references(pod):
                    self.violations.append(f"{meta['name']} was deleted with {len(references(pod))} references")


class Trouble(threading.Thread):
    """Kills agents and changes what the proxy breaks."""

    def __init__(self, api, arguments, rng):
        super().__init__(daemon=True)
        self.api, self.arguments, self.rng = api, arguments, rng
        self.over, self.kills, self.aways = threading.Event(), 0, 0

    def control(self, path, data):
        if self.arguments.control:
            urllib.request.urlopen(f"http://{self.arguments.control}{path}", data=data.encode(), timeout=5).read()

    def kill_agent(self):
        for each in os.listdir("/proc"):
            try:
                with open(f"/proc/{each}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if len(words) > 1 and os.path.basename(words[0]) == b"moorfs" and words[1] == b"node":
                os.kill(int(each), 9)
        # Else kubelet would wait longer and longer before it starts the container again.
        for pod in self.api.call("GET", f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io%2Fname%3Dmoorfs-node")["items"]:
            self.api.call("DELETE", f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
        self.kills += 1

    def run(self):
        next_kill = time.monotonic() + self.arguments.kill_every
        while not self.over.wait(self.rng.uniform(2, 5)):
            self.control("/rules", json.dumps(self.rng.choice(FAULTS)))
            if self.rng.random() < 0.15:
                self.control("/away", self.rng.choice(["refuse", "hang"]))
                self.aways += 1
                self.over.wait(self.rng.uniform(1, 4))
                self.control("/away", "")
            if self.rng.random() < 0.3:
                self.control("/break-watches", "")
            if time.monotonic() > next_kill:
                self.kill_agent()
                next_kill = time.monotonic() + self.arguments.kill_every * self.rng.uniform(0.5, 1.5)
        self.control("/rules", "[]")
        self.control("/away", "")


def pod(name, volume, flex, seconds):
    source = ({"flexVolume": {"driver": "moorfs.io/moorfs-flex", "options": {"fs": volume}}} if flex
              else {"persistentVolumeClaim": {"claimName": f"static-{volume}"}})
    command = f"mkdir -p /data/{name} && exec writer --dir /data/{name} --files 2 --pause-us 20000 --seconds {seconds}"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"storm": "yes"}},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "hostNetwork": True,
                     "automountServiceAccountToken": False, "enableServiceLinks": False,
                     "containers": [{"name": "main", "image": "moorfs.test/busybox:1", "imagePullPolicy": "Never",
                                     "command": ["/bin/sh", "-c", command],
                                     "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                     "volumes": [{"name": "data", **source}]}}


class Storm:
    def __init__(self, api, arguments, rng):
        self.api, self.arguments, self.rng = api, arguments, rng
        self.pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        self.alive, self.started, self.deleted_early, self.finished, self.failed = {}, 0, 0, 0, []

    def start(self):
        self.started += 1
        name = f"storm-{self.started}"
        volume = self.rng.choice(self.arguments.volumes)
        self.api.call("POST", self.pods, pod(name, volume, self.rng.random() < 0.4, round(self.rng.uniform(0.5, 6), 1)))
        # A third is deleted at any moment, before the volume is there as well.
        early = time.monotonic() + self.rng.uniform(0, 6) if self.rng.random() < 0.35 else None
        self.alive[name] = early

    def look(self):
        items = self.api.call("GET", f"{self.pods}?labelSelector=storm%3Dyes")["items"]
        there = {each["metadata"]["name"]: each for each in items}
        for name, early in list(self.alive.items()):
            if name not in there:
                del self.alive[name]
                continue
            phase = there[name]["status"].get("phase")
            if "deletionTimestamp" in there[name]["metadata"]:
                continue
            if phase in ("Succeeded", "Failed"):
                self.finished += phase == "Succeeded"
                if phase == "Failed":
                    log = self.api.request("GET", f"{self.pods}/{name}/log").read().decode(errors="replace")
                    self.failed.append(f"{name}: {log.strip()[-400:]}")
                self.api.call("DELETE", f"{self.pods}/{name}")
            elif early is not None and time.monotonic() > early:
                self.deleted_early += 1
                self.api.call("DELETE", f"{self.pods}/{name}")

    def run(self, deadline):
        while self.started < self.arguments.pods or self.alive:
            while self.started < self.arguments.pods and len(self.alive) < self.arguments.parallel:
                self.start()
            self.look()
            if time.monotonic() > deadline:
                raise RuntimeError(f"still there in the end: {' '.join(self.alive)}")
            time.sleep(0.3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kubeconfig")
    parser.add_argument("--pods", type=int, required=True)
    parser.add_argument("--volumes", nargs="+", required=True)
    parser.add_argument("--parallel", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--control")
    parser.add_argument("--kill-every", type=float, default=20)
    arguments = parser.parse_args()
    api, rng = Api(arguments.kubeconfig), random.Random(arguments.seed)
    observer = Observer(api)
    trouble = Trouble(api, arguments, random.Random(arguments.seed + 1))
    storm = Storm(api, arguments, rng)
    trouble.start()
    began = time.monotonic()
    try:
        storm.run(began + 120 + arguments.pods * 8)
    except RuntimeError as error:
        storm.failed.append(str(error))
    trouble.over.set()
    trouble.join()
    print(f"  {storm.started} pods in {time.monotonic() - began:.0f} s: {storm.finished} verified their bytes to the end, "
          f"{storm.deleted_early} deleted before; agent killed {trouble.kills} times, API away {trouble.aways} times, "
          f"{len(observer.made)} mount pods; seed {arguments.seed}")
    for each in storm.failed + observer.violations:
        print("  FAILED: " + each)
    sys.exit(1 if storm.failed or observer.violations else 0)


main()

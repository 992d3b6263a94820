#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Are these the same objects? Of what kustomize and helm render, as JSON by kubectl:
#   same_objects.py KUSTOMIZE.json CHART.json
# Exit status 1 with a line for each difference. The order of objects, the layout of
# config.json and the chart's checksum annotation do not count; everything else does.

import json
import sys

CHECKSUM = "checksum/config"


def read(path):
    text = open(path, encoding="utf-8").read()
    decoder, at, found = json.JSONDecoder(), 0, {}
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        for each in value["items"] if value.get("kind") == "List" else [value]:
            name = "/".join([each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]])
            if name in found:
                sys.exit(f"{path}: {name} is there twice")
            found[name] = plain(each)
    return found


def plain(each):
    if each["kind"] == "ConfigMap":
        each["data"] = {k: json.loads(v) if k.endswith(".json") else v for k, v in each["data"].items()}
    annotations = each.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {})
    annotations.pop(CHECKSUM, None)
    return each


def differences(a, b, where):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if key not in a or key not in b:
                yield f"{where}.{key}: only in {'the chart' if key in b else 'kustomize'}: {json.dumps(a.get(key, b.get(key)))}"
            else:
                yield from differences(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            yield from differences(x, y, f"{where}[{i}]")
    elif a != b or type(a) is not type(b):
        yield f"{where}: kustomize {json.dumps(a)}, chart {json.dumps(b)}"


def main():
    kustomize, chart = read(sys.argv[1]), read(sys.argv[2])
    if not kustomize:
        sys.exit("no objects")
    found = [f"{name}: only in kustomize" for name in sorted(kustomize.keys() - chart.keys())]
    found += [f"{name}: only in the chart" for name in sorted(chart.keys() - kustomize.keys())]
    for name in sorted(kustomize.keys() & chart.keys()):
        found += differences(kustomize[name], chart[name], name)
    print("\n".join(found) if found else f"{len(kustomize)} objects")
    sys.exit(1 if found else 0)


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts requests in the API server's audit log.

  audit.py LOG USER_PATTERN SINCE [UNTIL]    "VERB RESOURCE NAMESPACE COUNT" a line
  audit.py LOG USER_PATTERN SINCE [UNTIL] --sum   "reads N lists N watches N writes N refused N"
  audit.py LOG USER_PATTERN SINCE [UNTIL] --each  a line for each request, with its time

Times are seconds since 1970; USER_PATTERN is a regular expression for the whole
user name. A watch counts once, when it began."""

import collections
import datetime
import json
import re
import sys

WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def requests(path, pattern, since, until):
    seen = set()
    with open(path, encoding="utf-8") as log:
        for line in log:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the line that is being written
            if entry["auditID"] in seen or not pattern.fullmatch(entry["user"]["username"]):
                continue
            at = datetime.datetime.fromisoformat(entry["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp()
            if since <= at < until:
                seen.add(entry["auditID"])
                yield at, entry


def resource(entry):
    ref = entry.get("objectRef", {})
    sub = ref.get("subresource")
    return ref.get("resource", entry["requestURI"]) + (f"/{sub}" if sub else "")


def main():
    mode = next((each for each in sys.argv if each.startswith("--")), "")
    words = [each for each in sys.argv[1:] if not each.startswith("--")]
    if not 3 <= len(words) <= 4 or mode not in ("", "--sum", "--each"):
        sys.exit(__doc__)
    until = float(words[3]) if len(words) > 3 else float("inf")
    found = list(requests(words[0], re.compile(words[1]), float(words[2]), until))
    if mode == "--sum":
        verbs = collections.Counter(entry["verb"] for _, entry in found)
        refused = sum(1 for _, entry in found if entry.get("responseStatus", {}).get("code", 0) in (401, 403))
        print(f"reads {verbs['get']} lists {verbs['list']} watches {verbs['watch']} "
              f"writes {sum(verbs[each] for each in WRITES)} refused {refused}")
    elif mode == "--each":
        for at, entry in sorted(found, key=lambda each: each[0]):
            ref = entry.get("objectRef", {})
            print(f"{at:.3f} {entry['user']['username']} {entry['verb']} {resource(entry)} "
                  f"{ref.get('namespace', '-')}/{ref.get('name', '-')} {entry.get('responseStatus', {}).get('code', '-')}")
    else:
        counts = collections.Counter((entry["verb"], resource(entry), entry.get("objectRef", {}).get("namespace", "-"))
                                     for _, entry in found)
        for (verb, what, namespace), count in sorted(counts.items()):
            print(verb, what, namespace, count)


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# judge.py REPORT.xml MAY_SKIP LEAST: reads csi-sanity's JUnit report, prints what
# passed, failed and was skipped, and fails when a case failed, when one was
# skipped whose name does not match MAY_SKIP, or when fewer than LEAST passed.

import re
import sys
import xml.etree.ElementTree


def main():
    report, may_skip, least = sys.argv[1], re.compile(sys.argv[2]), int(sys.argv[3])
    passed, failed, skipped, pending, bad = 0, [], [], [], []
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = re.sub(r"^\[It\] ", "", case.get("name"))
        status = case.get("status")
        if not case.get("name").startswith("[It]") and status == "passed":
            continue  # set-up and tear-down of the suite
        if status == "passed":
            passed += 1
        elif status == "pending":
            pending.append(name)
        elif status == "skipped":
            reason = case.find("skipped")
            skipped.append((name, reason.get("message") if reason is not None else ""))
        else:
            failed.append(name)
    # With a pattern the rest is "skipped" without a reason.
    skipped = [(name, reason) for name, reason in skipped if reason and reason != "skipped"]
    for name, reason in skipped:
        if not may_skip.search(name):
            bad.append(f"skipped itself although we advertise it: {name} ({reason})")
    bad += [f"failed: {name}" for name in failed]
    if passed < least:
        bad.append(f"only {passed} cases passed, at least {least} are expected")
    print(f"  {passed} passed, {len(failed)} failed, {len(skipped)} skipped, {len(pending)} switched off by the suite")
    for name, _ in skipped:
        print(f"    skipped, not advertised: {name}")
    for name in pending:
        print(f"    switched off by the suite: {name}")
    for line in bad:
        print(line)
    return 1 if bad else 0


sys.exit(main())

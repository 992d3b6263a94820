#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Is every message in docs/troubleshooting.md one that the program has?
#   messages.py TOP
# In the first column of its tables a text in backquotes is a message, unless the word
# *Kubernetes* stands before it. "…" is what differs; each piece between must be in a
# string literal of the sources, literals that follow each other being one.

import pathlib
import re
import sys

SHORTEST = 8


def literals(top):
    out = []
    for path in sorted(top.rglob("*.cc")) + sorted(top.rglob("*.h")):
        if path.relative_to(top).parts[0] in ("build", "test"):
            continue
        text = re.sub(r'"\s*\n\s*"', "", path.read_text(encoding="utf-8"))
        out += re.findall(r'"((?:[^"\\\n]|\\.)*)"', text)
    return [each.replace('\\"', '"') for each in out]


def messages(document):
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        cells = re.split(r"(?<!\\)\|", line)
        if len(cells) < 4 or "*Kubernetes*" in cells[1]:
            continue
        for message in re.findall(r"`([^`]+)`", cells[1]):
            if " " in message:
                yield number, message


def main():
    top = pathlib.Path(sys.argv[1])
    document = top / "docs/troubleshooting.md"
    # A message that is put together: "A" + x + "B" has its pieces in different literals.
    known, count, bad = literals(top), 0, []
    for number, message in messages(document):
        count += 1
        for piece in re.split(r"…|\$?\{[^}]*\}", message):
            piece = piece.strip(' "')
            if len(piece) >= SHORTEST and not any(piece in each for each in known):
                bad.append(f"{document.name}:{number}: no source has \"{piece}\"")
    if count < 20:
        bad.append(f"{document.name}: only {count} messages are found in it; is it read right?")
    print("\n".join(bad) if bad else f"{count} messages")
    sys.exit(1 if bad else 0)


main()

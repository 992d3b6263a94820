# SPDX-License-Identifier: Apache-2.0
#
# The house rules that a machine can check. Each lint is a function from a Tree
# (a root and the files below it) to a list of violations "file:line: what, and
# what to do". self_test.py plants one violation of each and must find it.

import os
import re
import subprocess

# Which folder may include which; what a row may include, it may also include
# through: the table is closed transitively. A folder's subfolders belong to it.
ARROWS = {
    "common/base": [],
    "common/log": ["common/base"],
    # It reads a volume's options; the words for mount flags are the kernel's.
    "common/config": ["common/base", "common/log", "common/os"],
    "common/os": ["common/base", "common/log"],
    "common/control": ["common/base", "common/log", "common/os"],
    "common/http": ["common/base", "common/log", "common/os"],
    "common/kube": ["common/http", "common/base", "common/log", "common/os"],
    # The keeper answers the mount's control socket.
    "common/keeper": ["common/base", "common/log", "common/os", "common/control"],
    # The words between the flex door and the agent; the door links with nothing else.
    "common/agent": ["common/base", "common/log", "common/os", "common/control"],
    "common/mount": ["common/config", "common/os", "common/control", "common/agent", "common/keeper", "common/kube"],
    # What `moorfs flex --standalone` executes: the door itself must link without the manager.
    # Before "flex": a file belongs to the first row that names its folder.
    "flex/standalone": ["flex", "common/mount", "common/config", "common/agent", "common/control"],
    "flex": ["common/agent", "common/config", "common/control", "common/base", "common/os", "common/log"],
    "csi": ["common/mount", "common/config", "common/agent", "common/control"],
    "fs/format": ["common/base"],
    "fs/kv": ["fs/format", "common/base", "common/log", "common/os"],
    "fs/object": ["fs/format", "common/base", "common/log", "common/os"],
    "fs/meta": ["fs/kv", "fs/format"],
    "fs/chunk": ["fs/object", "fs/format"],
    "fs/vfs": ["fs/meta", "fs/chunk"],
    "fs/fuse": ["fs/vfs", "common/keeper", "common/control"],
    "fs/admin": ["fs/fuse", "fs/vfs", "fs/meta", "fs/chunk", "fs/kv", "fs/object", "fs/format",
                 "common/config", "common/control", "common/keeper"],
    # It puts files onto a host; what they do is not its business.
    "installer": ["common/base", "common/log", "common/os", "common/control", "common/agent", "common/config"],
    "main.cc": ["installer", "fs/admin", "flex", "csi", "flex/standalone"],
}
# Single edges that do not open a whole folder: the key schema speaks in the engine's Key.
EXTRA = {("fs/format/keys.h", "fs/kv/kv.h"), ("fs/format/keys.cc", "fs/kv/kv.h")}

# A library's headers stay in the folder that holds it.
HOLDERS = {
    "leveldb/": ["fs/kv/leveldb"],
    "fuse": ["fs/fuse"],
    "CLI/": ["fs/admin", "csi", "installer", "main.cc"],
    "Poco/": ["csi"],
    "lz4": ["fs/format"],
    "zstd": ["fs/format"],
    "xxhash": ["fs/format", "fs/meta"],
    "grpc": ["csi"],
    "google/protobuf": ["csi"],
    "prometheus/": ["csi"],
    "openssl/": ["common/mount", "installer"],
    "curl/": ["common/http"],
    "catch2/": [],
}

SOURCE = (".cc", ".h", ".c")
SCRIPT_SHEBANG = re.compile(r"^#!.*\b(bash|sh|python3)\b")


class Tree:
    """The files git would know of (tracked or new, not ignored), or a plain walk outside git."""

    def __init__(self, root):
        self.root = root
        if os.path.isdir(os.path.join(root, ".git")):
            out = subprocess.run(["git", "-c", f"safe.directory={root}", "-C", root, "ls-files", "-zco",
                                  "--exclude-standard"], check=True, capture_output=True).stdout
            names = [n for n in out.decode().split("\0") if n]
        else:
            names = []
            for folder, dirs, files in os.walk(root):
                dirs[:] = [d for d in dirs if d != ".git" and not d.startswith("build")]
                names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
        self.files = sorted(n for n in names if os.path.isfile(os.path.join(root, n)))
        self._text = {}

    def text(self, name):
        if name not in self._text:
            with open(os.path.join(self.root, name), "rb") as f:
                raw = f.read()
            self._text[name] = "" if b"\0" in raw[:8192] else raw.decode("utf-8", "replace")
        return self._text[name]

    def lines(self, name):
        return enumerate(self.text(name).split("\n"), 1)

    def is_script(self, name):
        return SCRIPT_SHEBANG.match(self.text(name)[:80]) is not None


def closure(row):
    seen, todo = set(), [row]
    while todo:
        for target in ARROWS[todo.pop()]:
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def row_of(name):
    for row in ARROWS:
        if name == row or name.startswith(row + "/"):
            return row
    return None


def lint_arrows(tree):
    """includes follow the dependency table"""
    bad = []
    allowed = {row: closure(row) | {row} for row in ARROWS}
    for row in ARROWS:
        if row in closure(row):
            bad.append(f"test/lint/lints.py:1: the table itself has a cycle through {row}")
    for name in tree.files:
        if not name.endswith(SOURCE) or name.startswith("test/"):
            continue
        row = row_of(name)
        if row is None:
            bad.append(f"{name}:1: folder is not in the dependency table; add it to ARROWS in test/lint/lints.py")
            continue
        for number, line in tree.lines(name):
            own = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if own:
                target = own.group(1)
                if (name, target) in EXTRA:
                    continue
                target_row = row_of(target)
                if target_row is None:
                    bad.append(f'{name}:{number}: #include "{target}" is no path from the root of the tree')
                elif target_row not in allowed[row]:
                    bad.append(f"{name}:{number}: {row} may not include {target_row} ({target})")
            foreign = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            if foreign:
                for prefix, holders in HOLDERS.items():
                    if foreign.group(1).startswith(prefix) and not any(
                            name == h or name.startswith(h + "/") for h in holders):
                        bad.append(f"{name}:{number}: <{foreign.group(1)}> belongs to "
                                   f"{' and '.join(holders) or 'test'} only")
    return bad


def lint_spdx(tree):
    """sources and scripts name their licence in the first three lines"""
    bad = []
    for name in tree.files:
        wants = name.endswith(SOURCE + (".py", ".cmake", ".sh")) or \
            tree.is_script(name)
        if wants and "SPDX-License-Identifier: Apache-2.0" not in "\n".join(tree.text(name).split("\n")[:3]):
            bad.append(f"{name}:1: no SPDX-License-Identifier: Apache-2.0 in the first three lines")
    return bad


def lint_readme(tree):
    """every folder that holds a library or a test step has a README.md"""
    bad = []
    folders = {row for row in ARROWS if "." not in row and any(n.startswith(row + "/") for n in tree.files)}
    for name in tree.files:
        parts = name.split("/")
        if parts[0] == "test" and len(parts) > 2 and parts[1] != "unit":
            folders.add("/".join(parts[:2]))
    for folder in sorted(folders):
        readme = folder + "/README.md"
        if readme not in tree.files:
            bad.append(f"{readme}:1: missing; say what the folder knows, what it must not know, how to test it alone")
        elif len(tree.text(readme).strip().split("\n")) < 5:
            bad.append(f"{readme}:1: says too little (fewer than 5 lines)")
    return bad


# Written in pieces, so that this file does not convict itself.
FORBIDDEN = [
    (re.compile(r"\.\./" + "shared"), "path outside the project"),
    (re.compile(r"(?:crates" + r"\.io|pypi" + r"\.org|registry\.npmjs|docker" + r"\.io|proxy\.golang|"
                r"deb\.debian" + r"\.org)"), "name of a package registry host"),
    (re.compile(r"(?<![\w.\-\"'$])K[1-9]\d?\b(?! ?[iB])"), "reference to a decision by number; say the reason itself"),
    (re.compile(r"\bissue #?\d+\b", re.I), "reference to an issue by number; say the reason itself"),
    (re.compile(r"\b(?:Clau" + r"de|Anthro" + r"pic|LL" + r"M)\b"), "mention of how the text came about"),
]


def lint_words(tree):
    """the project stands alone: no outside paths, registry hosts, numbers of decisions"""
    bad = []
    for name in tree.files:
        if name == "LICENSE" or name.endswith("/go.sum"):
            continue
        for number, line in tree.lines(name):
            for pattern, what in FORBIDDEN:
                found = pattern.search(line)
                if found:
                    bad.append(f"{name}:{number}: '{found.group(0)}': {what}")
    return bad


def lint_links(tree):
    """links between documents lead somewhere"""
    bad = []
    for name in tree.files:
        if not name.endswith(".md"):
            continue
        for number, line in tree.lines(name):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:", target) or target.startswith("#"):
                    continue
                path = os.path.normpath(os.path.join(tree.root, os.path.dirname(name), target.split("#")[0]))
                if not os.path.exists(path):
                    bad.append(f"{name}:{number}: link to {target}, which does not exist")
    return bad


def known_tests(tree):
    """Everything a promise may name: Catch2 cases, quoted strings of test scripts, paths of test steps."""
    names = set()
    for name in tree.files:
        if not name.startswith("test/") or name.startswith("test/lint/"):
            continue
        names.add(name)
        if name.endswith("/run"):
            names.add(name[: -len("/run")])
        if name.endswith(SOURCE):
            # Adjacent literals ("a long " "name") are one name.
            for group in re.findall(r'(?:TEST_CASE|SCENARIO|SECTION|TEST_CASE_METHOD)\s*\(\s*(?:\w+\s*,\s*)?'
                                    r'((?:"(?:[^"\\]|\\.)*"\s*)+)', tree.text(name)):
                names.add("".join(re.findall(r'"((?:[^"\\]|\\.)*)"', group)))
        elif tree.is_script(name) or name.endswith((".py", ".sh")):
            names.update(re.findall(r'"([^"\n$]{4,})"', tree.text(name)))
            names.update(re.findall(r"'([^'\n]{4,})'", tree.text(name)))
    return names


def lint_semantics(tree):
    """every promise in docs/semantics.md names a test that exists"""
    name = "docs/semantics.md"
    if name not in tree.files:
        return [f"{name}:1: missing"]
    bad, tests = [], known_tests(tree)
    item, start, in_body = "", 0, False

    def finish():
        if not item:
            return
        refs = re.findall(r"\[test: ([^\]]+)\]", item)
        if not refs:
            bad.append(f"{name}:{start}: a promise without [test: …]")
        for ref in refs:
            if ref not in tests:
                bad.append(f"{name}:{start}: no test is called '{ref}'")

    for number, line in tree.lines(name):
        if line.startswith("#"):
            finish()
            item = ""
            in_body = in_body or line.startswith("## ")
        elif line.startswith("- "):
            finish()
            item, start = line, number
        elif line.startswith("  ") and item:
            item += " " + line.strip()
        elif line.strip() == "":
            finish()
            item = ""
        elif in_body and not line.startswith(">"):
            bad.append(f"{name}:{number}: text outside a list item; make it a promise with a test, or a '>' note")
    finish()
    return bad


def lint_shell(tree):
    """shell scripts parse, and shellcheck (where installed) has no complaint"""
    scripts = [n for n in tree.files
               if re.match(r"^#!.*\b(bash|sh)\b", tree.text(n)[:80]) or n.endswith(".sh")]
    bad = []
    for name in scripts:
        parse = subprocess.run(["bash", "-n", name], cwd=tree.root, capture_output=True, text=True)
        if parse.returncode != 0:
            bad.append(f"{name}:1: {parse.stderr.strip().splitlines()[0]}")
    scripts = [n for n in scripts if not any(b.startswith(n + ":") for b in bad)]
    from shutil import which
    if which("shellcheck") and scripts:
        out = subprocess.run(["shellcheck", "-x", "-S", "warning", "-f", "gcc"] + scripts, cwd=tree.root,
                             capture_output=True, text=True)
        bad += [line for line in out.stdout.splitlines() if line.strip()]
    return bad


def lint_executable(tree):
    """what has a shebang can be executed"""
    return [f"{n}:1: has a shebang but no x bit; chmod +x" for n in tree.files
            if tree.text(n).startswith("#!") and not os.access(os.path.join(tree.root, n), os.X_OK)]


LINTS = [lint_arrows, lint_spdx, lint_readme, lint_words, lint_links, lint_semantics, lint_shell, lint_executable]

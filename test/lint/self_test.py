# SPDX-License-Identifier: Apache-2.0
#
# A lint that finds nothing proves nothing: for each one a small tree is made
# that is clean, then one violation is planted, which must be reported with the
# file and line it is in, and by no other lint.

import os
import shutil
import tempfile

import lints

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
README = "# x\n\nKnows this.\nNot that.\nAlone: ctest.\n"

CLEAN = {
    "common/base/status.h": SPDX,
    "common/base/README.md": README,
    "fs/kv/kv.h": SPDX + '#include "common/base/status.h"\n',
    "fs/kv/README.md": README,
    "fs/format/keys.h": SPDX + '#include "fs/kv/kv.h"\n',
    "fs/format/README.md": README,
    "fs/meta/meta.h": SPDX + '#include "fs/kv/kv.h"\n#include "common/base/status.h"\n',
    "fs/meta/README.md": README,
    "test/unit/meta_test.cc": SPDX + '#include <catch2/catch.hpp>\nTEST_CASE("a name " "in two parts") {\n}\n',
    "docs/semantics.md": "# What you may rely on\n\nIntro.\n\n## Files\n\n- It keeps. [test: a name in two parts]\n",
}

# lint, file, content, line that must be named
PLANTS = [
    (lints.lint_arrows, "fs/meta/bad.cc", SPDX + '#include "fs/kv/kv.h"\n\n#include "fs/chunk/x.h"\n', 4),
    (lints.lint_arrows, "fs/kv/bad.cc", SPDX + '#include "fs/meta/meta.h"\n', 2),
    (lints.lint_arrows, "fs/format/bad.cc", SPDX + '#include "fs/kv/kv.h"\n', 2),
    (lints.lint_arrows, "fs/meta/bad.h", SPDX + "#include <leveldb/db.h>\n", 2),
    (lints.lint_arrows, "fs/unknown/bad.cc", SPDX, 1),
    (lints.lint_spdx, "fs/meta/bad.cc", "int x;\n", 1),
    (lints.lint_spdx, "bad.sh", "#!/bin/sh\ntrue\n", 1),
    (lints.lint_readme, "fs/object/object_store.h", SPDX, 1),
    (lints.lint_words, "fs/meta/bad.cc", SPDX + "// as K" + "12 says\n", 2),
    (lints.lint_words, "bad.md", "\nsee ../" + "shared/x\n", 2),
    (lints.lint_words, "bad.md", "from crates" + ".io\n", 1),
    (lints.lint_words, "bad.md", "(Issue" + " 3)\n", 1),
    (lints.lint_links, "bad.md", "fine: [a](docs/semantics.md#files)\n[b](docs/none.md)\n", 2),
    (lints.lint_semantics, "docs/semantics.md", "# x\n\n## Files\n\n- Kept. [test: nobody\n  wrote this]\n", 5),
    (lints.lint_semantics, "docs/semantics.md", "# x\n\n## Files\n\n- Kept, we hope.\n", 5),
    (lints.lint_semantics, "docs/semantics.md", "# x\n\n## Files\n\nKept, we hope.\n", 5),
    (lints.lint_shell, "bad.sh", "#!/bin/bash\n# SPDX-License-Identifier: Apache-2.0\nif true; then\n", 1),
    (lints.lint_executable, "bad", "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n", 1),
]


def write(root, name, content):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(content)
    if content.startswith("#!") and name != "bad":
        os.chmod(path, 0o755)


def run():
    failures = []
    for number, (lint, name, content, line) in enumerate([(None, None, None, None)] + PLANTS):
        root = tempfile.mkdtemp(prefix="moorfs-lint-")
        try:
            for clean_name, clean in CLEAN.items():
                write(root, clean_name, clean)
            if lint:
                write(root, name, content)
            # "fs/object" in the README plant is the folder's missing file.
            where = "fs/object/README.md:1:" if lint is lints.lint_readme else f"{name}:{line}:"
            for each in lints.LINTS:
                found = each(lints.Tree(root))
                if each is lint:
                    if len(found) != 1 or not found[0].startswith(where):
                        failures.append(f"plant {number}: {each.__name__} wants one finding at {where}, has {found}")
                elif found and not (each is lints.lint_readme and name and name.startswith("fs/unknown")):
                    failures.append(f"plant {number} ({name}): {each.__name__} finds {found} in a clean tree")
        finally:
            shutil.rmtree(root)
    return failures

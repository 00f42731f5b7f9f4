"""Other x86-64 processors than this one: the same machine with instruction sets hidden from the libraries.

All tests as on a processor with AVX2 alone, or with AVX-512 and no VNNI:

    python -m tests.support.processors avx2 make test
    python -m tests.support.processors avx512 make test

Needs a C compiler and a processor and kernel that let CPUID fault (Intel since Ivy Bridge, AMD since Zen 4).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

# What is hidden, by the kind of processor that is left; see hide_features.c.
HIDDEN = {"avx2": "avx512", "avx512": "vnni"}
_SOURCE = Path(__file__).parent / "hide_features.c"


def environment(kind: str, folder: Path) -> Mapping[str, str] | None:
    """The environment in which programs find a processor of `kind`, a library built into `folder`; None where this
    machine cannot hide anything."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "hide_features.so"
    subprocess.run(
        [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", str(_SOURCE), "-o", str(library), "-ldl"],
        check=True,
    )
    found = {**os.environ, "LD_PRELOAD": str(library), "HIDE_FEATURES": HIDDEN[kind]}
    return found if subprocess.run(["true"], env=found).returncode == 0 else None


def main() -> int:
    """Run a command as on another processor."""
    if len(sys.argv) < 3 or sys.argv[1] not in HIDDEN:
        sys.exit(f"usage: python -m tests.support.processors {'|'.join(HIDDEN)} COMMAND ...")
    with tempfile.TemporaryDirectory() as folder:
        found = environment(sys.argv[1], Path(folder))
        if found is None:
            sys.exit("processors: no C compiler (cc), or this processor cannot hide its features")
        return subprocess.run(sys.argv[2:], env=found).returncode


if __name__ == "__main__":
    sys.exit(main())

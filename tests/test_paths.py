"""Every file that prose, comments and configs name is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (
    *("benchmarks", "client", "demo", "docs", "ensembles"),
    *("export", "model_repository", "server", "tests", "training"),
)
READ = {".py", ".md", ".pbtxt", ".toml", ".sh"}
# A path from the root of the repository to a file that is committed, not built.
NAMED = re.compile(
    rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/(?!out/|\w+/1/)[\w./-]*\w\.(?:py|md|sh|txt|toml|pbtxt|jpg|png|json|c|ini)\b"
)
# Steps by which a reader adds files.
INSTRUCTIONS = {"add-an-operation.md", "add-a-network.md"}


def test_named_files_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "MODELS.md", ROOT / "Makefile"]
    for folder in FOLDERS:
        pages += [path for path in (ROOT / folder).rglob("*") if path.suffix in READ]
    missing = {
        f"{page.relative_to(ROOT)}: {path}"
        for page in pages
        if page.name not in INSTRUCTIONS and page.is_file()
        for path in NAMED.findall(page.read_text())
        if not (ROOT / path).exists()
    }
    assert not missing

"""What a TensorRT plan is for, as model.plan.json beside it tells: read with distrust, since anyone may have edited it.

export/nexus_export/engines/manifest.py writes that file, and tests/export/test_engines.py holds both to one format.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE_NAME = re.compile(r"\w[\w.-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ManifestError(Exception):
    """What is the matter with a manifest, as the end of a sentence about its plan."""


@dataclass(frozen=True)
class Manifest:
    """The facts by which the server chooses: what the plan runs on, and which files it belongs to.

    `onnx_sha256` are the digests of the files that it was built from, by their names; `rows` is the largest batch.
    """

    network: str
    gpu: str
    library: str
    library_version: str
    onnx_sha256: dict[str, str]
    rows: int
    engine_sha256: str
    engine_bytes: int


def read(path: Path) -> Manifest:
    """The manifest at `path`. Raises ManifestError."""
    if not path.exists():
        raise ManifestError("has no manifest")
    if not path.is_file():  # a device would be read for ever
        raise ManifestError("has a manifest that is not a file")
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        raise ManifestError("has a manifest that cannot be read") from None
    if not isinstance(facts, dict):
        raise ManifestError("has a manifest that cannot be read")
    return Manifest(
        **{
            name: _text(facts, name)
            for name in ("network", "gpu", "library", "library_version", "engine_sha256")
        },
        onnx_sha256=_digests(facts),
        rows=_rows(facts),
        engine_bytes=_count(facts.get("engine_bytes"), "engine_bytes"),
    )


def _text(facts: dict[str, Any], name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str):
        raise _wrong(name)
    return value


def _digests(facts: dict[str, Any]) -> dict[str, str]:
    digests = facts.get("onnx_sha256")
    if not isinstance(digests, dict):
        raise _wrong("onnx_sha256")
    for name, digest in digests.items():
        is_digest = isinstance(digest, str) and _DIGEST.fullmatch(digest)
        if not (is_digest and _FILE_NAME.fullmatch(name)):
            raise _wrong("onnx_sha256")
    return digests


def _rows(facts: dict[str, Any]) -> int:
    """The batch that every input of the profile takes."""
    profile = facts.get("profile")
    if not isinstance(profile, dict) or not profile:
        raise _wrong("profile")
    found = []
    for shapes in profile.values():
        most = shapes.get("most") if isinstance(shapes, dict) else None
        found.append(_count(most[0] if isinstance(most, list) and most else None, "profile"))
    return min(found)


def _count(value: object, name: str) -> int:
    if type(value) is not int or value < 1:  # True is an int too
        raise _wrong(name)
    return value


def _wrong(name: str) -> ManifestError:
    return ManifestError(f"has a manifest whose {name} is missing or malformed")

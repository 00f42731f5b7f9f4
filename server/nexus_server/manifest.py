"""Reads model.plan.json, the manifest of a TensorRT plan; validates every field, since anyone may have edited it.

export/nexus_export/engines/manifest.py writes the file; tests/export/engines/test_artifact.py checks that both agree.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE_NAME = re.compile(r"\w[\w.-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ManifestError(Exception):
    """A manifest cannot be used; the message is a predicate whose subject is the plan."""


@dataclass(frozen=True)
class Manifest:
    """The fields by which the server decides: the hardware and library of a plan, and the files it belongs to.

    `onnx_sha256` maps the names of the files that the plan was built from to their digests.
    """

    network: str
    gpu: str
    library: str
    library_version: str
    onnx_sha256: dict[str, str]
    max_batch_size: int
    engine_sha256: str
    engine_bytes: int


def read(path: Path) -> Manifest:
    """Read the manifest at `path`. Raises ManifestError if a field is missing or malformed."""
    if not path.exists():
        raise ManifestError("has no manifest")
    if not path.is_file():  # reading a device might never end
        raise ManifestError("has a manifest that is not a file")
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        raise ManifestError("has a manifest that cannot be read") from None
    if not isinstance(fields, dict):
        raise ManifestError("has a manifest that cannot be read")
    return Manifest(
        **{
            name: _text(fields, name)
            for name in ("network", "gpu", "library", "library_version", "engine_sha256")
        },
        onnx_sha256=_digests(fields),
        max_batch_size=_max_batch_size(fields),
        engine_bytes=_count(fields.get("engine_bytes"), "engine_bytes"),
    )


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _malformed(name)
    return value


def _digests(fields: dict[str, Any]) -> dict[str, str]:
    digests = fields.get("onnx_sha256")
    if not isinstance(digests, dict):
        raise _malformed("onnx_sha256")
    for name, digest in digests.items():
        is_digest = isinstance(digest, str) and _DIGEST.fullmatch(digest)
        if not (is_digest and _FILE_NAME.fullmatch(name)):
            raise _malformed("onnx_sha256")
    return digests


def _max_batch_size(fields: dict[str, Any]) -> int:
    """The largest batch that every input of the profile takes."""
    profile = fields.get("profile")
    if not isinstance(profile, dict) or not profile:
        raise _malformed("profile")
    sizes = []
    for shapes in profile.values():
        largest = shapes.get("most") if isinstance(shapes, dict) else None
        sizes.append(_count(largest[0] if isinstance(largest, list) and largest else None, "profile"))
    return min(sizes)


def _count(value: object, name: str) -> int:
    if type(value) is not int or value < 1:  # True is an int too
        raise _malformed(name)
    return value


def _malformed(name: str) -> ManifestError:
    return ManifestError(f"has a manifest whose {name} is missing or malformed")

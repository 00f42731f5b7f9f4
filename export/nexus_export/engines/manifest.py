"""An engine's manifest: the JSON file beside it, which the server reads before it trusts the engine.

server/nexus_server/manifest.py reads the same file and shares no code with this; tests/export/engines/test_artifact.py
holds both to one format.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_export.engines.profile import Profile, Shapes
from nexus_export.files import write_file
from nexus_export.networks import Precision


@dataclass(frozen=True)
class Manifest:
    """The GPU, library, sources and shapes of an engine.

    `onnx_sha256` are `artifacts.digests` of the files that it was built from, and `quality` is their measured one, or
    None; the engine itself runs on its GPU alone.
    """

    network: str
    gpu: str
    library: str
    library_version: str
    onnx_sha256: Mapping[str, str]
    profile: Profile
    precision: Precision
    quality: Mapping[str, Any] | None
    engine_sha256: str
    engine_bytes: int
    build_seconds: float


def beside(engine: Path) -> Path:
    """Where an engine's manifest lies: model.plan.json beside model.plan."""
    return engine.with_name(f"{engine.name}.json")


def write(manifest: Manifest, engine: Path) -> None:
    """Write the manifest beside `engine`. Raises BuildError as `write_file` does."""
    fields = dataclasses.asdict(manifest)
    fields["profile"] = {name: shapes._asdict() for name, shapes in manifest.profile.items()}
    write_file(beside(engine), f"{json.dumps(fields, indent=1)}\n".encode())


def read(engine: Path) -> Manifest:
    """The manifest beside `engine`, as `write` wrote it."""
    fields = json.loads(beside(engine).read_text())
    fields["profile"] = {
        name: Shapes(**{size: tuple(dims) for size, dims in shapes.items()})
        for name, shapes in fields["profile"].items()
    }
    return Manifest(**fields)

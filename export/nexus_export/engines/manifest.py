"""What an engine is for: the JSON file beside it, which the server reads before it trusts the engine.

server/nexus_server/engines.py reads the same file and shares no code with this; tests/export/test_engines.py holds
both to one format.
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
    """An engine's facts.

    `onnx_sha256` are `artifacts.digests` of what it was built from, `quality` is what was
    measured of them, None where nothing was; the engine itself runs on its GPU alone.
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
    facts = dataclasses.asdict(manifest)
    facts["profile"] = {name: shapes._asdict() for name, shapes in manifest.profile.items()}
    write_file(beside(engine), f"{json.dumps(facts, indent=1)}\n".encode())


def read(engine: Path) -> Manifest:
    """The manifest beside `engine`, as `write` wrote it."""
    facts = json.loads(beside(engine).read_text())
    facts["profile"] = {
        name: Shapes(**{size: tuple(dims) for size, dims in shapes.items()})
        for name, shapes in facts["profile"].items()
    }
    return Manifest(**facts)

"""An engine beside its network's ONNX file in the model repository, with its manifest."""

import hashlib
import time
from pathlib import Path

from nexus_export.artifacts import digests, precision_of, read_metadata, read_quality
from nexus_export.engines import manifest
from nexus_export.engines.builder import BuildRequest, build_engine
from nexus_export.engines.libraries import Library
from nexus_export.engines.manifest import Manifest
from nexus_export.engines.profile import fixed_dims_of, profile
from nexus_export.errors import BuildError
from nexus_export.files import Report, write_file
from nexus_export.networks import Network, artifact


def write_engine(
    network: Network,
    repository: Path,
    gpu: str,
    library: Library,
    report: Report,
    max_batch: int | None = None,
    streams_weights: bool = False,
    timings: Path | None = None,
) -> Path:
    """Build the engine of the network's artifact in `repository`, and return its path: model.plan or model.rtx.

    Its manifest lies beside it. The old manifest is removed first, so that no engine lies beside another one's.
    See `BuildRequest` for the last three arguments.

    Raises BuildError if there is no ONNX file, it changed while the engine was built, the library does not build it
    for this GPU, or the disk is full.
    """
    path = artifact(network.name, repository)
    if not path.is_file():
        raise BuildError(
            f"{network.name} is not in {repository}; run: nexus-export build {network.name} --out {repository}"
        )
    found, quality = digests(path), read_quality(path)
    metadata = read_metadata(path)
    precision = precision_of(metadata)
    shapes = profile(network, fixed_dims_of(metadata), max_batch)
    request = BuildRequest(network, path, precision, gpu, shapes, timings, streams_weights)
    started = time.monotonic()
    built = build_engine(request, library, report)
    seconds = time.monotonic() - started
    if digests(path) != found:
        raise BuildError(
            f"{network.name} changed while its engine was built; run again: nexus-export engine {network.name}"
        )
    report("writing the engine")
    engine = path.with_name(library.file)
    manifest.beside(engine).unlink(missing_ok=True)
    write_file(engine, built)
    manifest.write(
        Manifest(
            network=network.name,
            gpu=gpu,
            library=library.backend,
            library_version=library.version,
            onnx_sha256=found,
            profile=shapes,
            precision=precision,
            quality=quality,
            engine_sha256=hashlib.sha256(built).hexdigest(),
            engine_bytes=len(built),
            build_seconds=round(seconds, 1),
        ),
        engine,
    )
    return engine

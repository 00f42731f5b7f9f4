"""The command `nexus-export engine`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from nexus_export.cli.progress import Progress
from nexus_export.engines.artifact import write_engine
from nexus_export.engines.libraries import ARCHITECTURES, BACKENDS, load
from nexus_export.engines.profile import USUAL_BATCH
from nexus_export.errors import BuildError
from nexus_export.networks import artifact, choose


def engine_command(
    gpu: Annotated[
        str, typer.Option(metavar="|".join(ARCHITECTURES), help="The GPU that will run it; sm86 is 8.6.")
    ],
    networks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NETWORK]...", help="Which ones, or groups; default: all that are built."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="|".join(BACKENDS),
            help="tensorrt makes the plan that Triton serves, on a machine with that GPU; rtx shows anywhere that a "
            "network compiles.",
        ),
    ] = "tensorrt",
    out: Annotated[Path, typer.Option("--out", help="The model repository.")] = Path("model_repository"),
    cache: Annotated[Path, typer.Option("--cache", help="Where TensorRT keeps its timings.")] = Path(
        "build/cache"
    ),
    max_batch: Annotated[
        int | None,
        typer.Option(
            min=USUAL_BATCH, help="At most so many rows at once, for less memory; default: the network's own."
        ),
    ] = None,
    stream_weights: Annotated[
        bool,
        typer.Option("--stream-weights", help="Run also where the weights exceed the GPU's memory; slower."),
    ] = False,
) -> None:
    """Compile built networks for one GPU, each as an engine beside its 1/model.onnx with a manifest."""
    for name, given, known in (("GPU", gpu, ARCHITECTURES), ("backend", backend, BACKENDS)):
        if given not in known:
            raise BuildError(f"there is no {name} {given!r}; choose from {', '.join(known)}.")
    library = load(backend)
    library.check(gpu)
    chosen = choose(networks or [])
    if not networks:
        chosen = [network for network in chosen if artifact(network.name, out).is_file()]
    if not chosen:
        raise BuildError(f"no network is in {out}; run: nexus-export build --out {out}")
    for network in chosen:
        started = time.monotonic()
        with Progress(network.name) as progress:
            path = write_engine(
                network,
                out,
                gpu,
                library,
                progress.report,
                max_batch=max_batch,
                streams_weights=stream_weights,
                timings=cache / f"{backend}-{library.version}-{gpu}.timings",
            )
        megabytes = path.stat().st_size / 1e6
        seconds = time.monotonic() - started
        print(f"{network.name}: {path.name} for {gpu} built in {seconds:.1f} s, {megabytes:.0f} MB")

"""The command `nexus-export engine`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from nexus_export.cli.options import CACHE, REPOSITORY, Out, choose_built, one_of
from nexus_export.cli.progress import Progress
from nexus_export.engines.artifact import write_engine
from nexus_export.engines.libraries import ARCHITECTURES, BACKENDS, load
from nexus_export.engines.profile import USUAL_BATCH


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
    out: Out = REPOSITORY,
    cache: Annotated[Path, typer.Option("--cache", help="Where TensorRT keeps its timings.")] = CACHE,
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
    one_of("GPU", gpu, ARCHITECTURES)
    one_of("backend", backend, BACKENDS)
    library = load(backend)
    library.check(gpu)
    for network in choose_built(networks or [], out):
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

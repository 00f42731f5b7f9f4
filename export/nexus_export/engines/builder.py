"""From an ONNX file to the bytes of an engine, by TensorRT or TensorRT-RTX."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from nexus_export.artifacts import target_of
from nexus_export.engines.build_errors import explain
from nexus_export.engines.graph import parseable
from nexus_export.engines.libraries import Library
from nexus_export.engines.profile import Profile
from nexus_export.errors import BuildError
from nexus_export.files import Report, write_file
from nexus_export.networks import Network, Precision
from nexus_export.precision.fp16 import ALL_OPS


@dataclass(frozen=True)
class BuildRequest:
    """A network's artifact to compile for one GPU, "sm86".

    `timings` is the file of TensorRT's earlier timings, which it extends. With `streams_weights` a GPU
    whose memory is less than the weights can run the engine, slower.
    """

    network: Network
    path: Path
    precision: Precision
    gpu: str
    profile: Profile
    timings: Path | None = None
    streams_weights: bool = False


def build_engine(request: BuildRequest, library: Library, report: Report) -> memoryview:
    """Compile the network and return the engine; `report` is called with the progress.

    Types are those of the graph (a strongly typed network): layers that the export keeps in FP32 stay FP32.

    Raises BuildError if the library does not build for this GPU, or cannot build this network.
    """
    api = library.api
    errors: list[str] = []  # that the library logged
    library.check(request.gpu)
    logger = _logger(api, errors)
    builder = api.Builder(logger)
    network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    report("reading the graph")
    parser = api.OnnxParser(network, logger)
    graph = onnx.load(str(request.path), load_external_data=False)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    if request.precision == "int8" and target_of(metadata) != "gpu":
        raise BuildError(
            f"the INT8 file of {request.network.name} is one for CPUs, whose quality is not an engine's; "
            "build it again with --precision int8 --for gpu."
        )
    graph = parseable(graph)
    # From memory, because the graph is changed for the parser, which finds the weights' file by the path.
    if not parser.parse(graph.SerializeToString(), str(request.path)):
        error = parser.get_error(0)
        raise explain(
            request.network,
            request.precision,
            library,
            request.gpu,
            [f"{error.node_operator()}: {error.desc()}"],
        )
    config = builder.create_builder_config()
    library.aim(config, request.gpu)
    if keeps_fp32_products(request):
        # TF32 has the mantissa of FP16, too coarse for FP32.
        config.clear_flag(api.BuilderFlag.TF32)
    if request.streams_weights:
        config.set_flag(api.BuilderFlag.WEIGHT_STREAMING)
    shapes = builder.create_optimization_profile()
    for name, sizes in request.profile.items():
        shapes.set_shape(name, *sizes)
    config.add_optimization_profile(shapes)
    monitor = _monitor(api, report)
    config.progress_monitor = monitor
    # TensorRT-RTX times nothing.
    timings = request.timings if library.backend == "tensorrt" else None
    with _timing_cache(config, timings), ThreadPoolExecutor(1) as pool:
        # In a thread of its own, so that Python waits here and handles Ctrl-C, which the library does not.
        built = pool.submit(builder.build_serialized_network, network, config)
        try:
            engine = built.result()
        except BaseException:
            monitor.is_cancelled = True
            raise
    if engine is None:
        raise explain(request.network, request.precision, library, request.gpu, errors)
    return memoryview(engine)


def keeps_fp32_products(request: BuildRequest) -> bool:
    """True if matmuls may need true FP32, so TF32 must be off.

    So it is for FP32 artifacts, for networks whose `fp32_ops` include MatMul, and for INT8 artifacts, which do not
    record the precision of their other layers.
    """
    return request.precision != "fp16" or not request.network.fp32_ops.isdisjoint({ALL_OPS, "MatMul"})


def _logger(api: Any, errors: list[str]) -> Any:
    class Logger(api.ILogger):  # type: ignore[misc]  # the class of a module that is chosen at run time
        def log(self, severity: Any, message: str) -> None:
            if severity <= api.ILogger.ERROR:
                errors.append(message)

    return Logger()


def _monitor(api: Any, report: Report) -> Any:
    class Monitor(api.IProgressMonitor):  # type: ignore[misc]
        """Reports the steps of the outermost phases."""

        def __init__(self) -> None:
            super().__init__()
            self.is_cancelled = False
            self._steps: dict[str, int] = {}
            self._last = ""

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self._steps[name] = steps
                self._log(f"{name}")

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

        def step_complete(self, name: str, step: int) -> bool:
            if name in self._steps:
                self._log(f"{name}, {100 * (step + 1) // self._steps[name]} %")
            return not self.is_cancelled

        def _log(self, words: str) -> None:
            if words != self._last:
                self._last = words
                report(words)

    return Monitor()


@contextmanager
def _timing_cache(config: Any, path: Path | None) -> Iterator[None]:
    """Use the file's timings in a block, and write the extended ones."""
    if path is None:
        yield
        return
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    yield
    write_file(path, bytes(config.get_timing_cache().serialize()))

"""Measures networks against their FP32 references on real photos, and holds them to their gates."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

from nexus_export.errors import QualityError, means_out_of_memory
from nexus_export.exported import Array, ExportedNetwork, InferenceFn
from nexus_export.networks import NETWORKS, Network, Precision
from nexus_export.quality import comparison, pipelines
from nexus_export.quality.comparison import Comparison, Figures, Outputs
from nexus_export.quality.gate import judge
from nexus_export.quality.photos import Photo, Split
from nexus_export.quality.pipelines import LoadReference, Sample
from nexus_export.quality.record import Quality, Record
from nexus_export.quality.simulation import served_run
from nexus_export.quality.speed import measure_speed


class Evaluator:
    """Measures networks that belong together: a decoder's samples are what its encoder writes.

    Usage:

        evaluator = Evaluator(read_photos(Path("demo/photos")), Path("build/cache"))
        for export in exports:
            evaluator.add(export)
        record, comparisons = evaluator.record(export, "fp16", path, fp32)
    """

    def __init__(
        self,
        photos: Mapping[Split, Sequence[Photo]],
        cache: Path,
        load_reference: LoadReference | None = None,
    ) -> None:
        """`load_reference` loads the references of networks that are not added; downloads are kept in `cache`."""
        self._photos = photos
        self._cache = cache
        self._load_reference = load_reference
        self._references: dict[str, Callable[[], InferenceFn]] = {}
        self._outputs: dict[bytes, dict[str, Array]] = {}

    def add(self, export: ExportedNetwork) -> None:
        """Make an export's reference known to the networks that read from it."""
        self._references[export.network.name] = export.reference

    def reference(self, name: str) -> InferenceFn:
        """The FP32 reference of the network of this name: runs once for each input, and loads at the first new one."""

        @cache
        def load() -> InferenceFn:
            if name in self._references or self._load_reference is None:
                return self._references[name]()
            return self._load_reference(name)

        def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
            content = b"".join(inputs[tensor].tobytes() for tensor in sorted(inputs))
            digest = hashlib.sha256(name.encode() + content).digest()
            if digest not in self._outputs:
                self._outputs[digest] = load()(inputs)
            return self._outputs[digest]

        return run

    def samples(self, network: Network, split: Split) -> Iterator[Sample]:
        """See `pipelines.samples`. The references before the network stay in memory until all samples are taken."""
        return pipelines.samples(network, split, self._photos[split], cache(self.reference), self._cache)

    def calibration(self, network: Network) -> Iterator[Mapping[str, Array]]:
        """The inputs that INT8's ranges are taken from."""
        return (sample.inputs for sample in self.samples(network, "calibration"))

    def measure(self, network: Network, precision: Precision, path: Path) -> tuple[Quality, list[Comparison]]:
        """Run the file at `path` and the network's reference on the test samples, one after the other.

        Raises QualityError if the file cannot be loaded or run, or memory does not suffice.
        """
        samples = list(self.samples(network, "test"))
        expected = _outputs(self.reference(network.name), samples)
        try:
            run, simulated = served_run(path)
            found = _outputs(run, samples)
            del run
        except Exception as error:
            if means_out_of_memory(str(error)):
                raise QualityError(
                    f"{network.name} does not fit in this machine's memory; measure it on one with more."
                ) from None
            # onnxruntime's classes are private, and its texts are of node names and source files.
            raise QualityError(
                f"{network.name} does not run ({type(error).__name__}: its file {path.name} is damaged or not this "
                f"network's); build it again: nexus-export build {network.name}."
            ) from None
        fault = next(filter(None, map(comparison.fault, expected, found)), None)
        differences = comparison.differences(expected, found)
        compared = [Comparison(*each) for each in zip(samples, expected, found, strict=True)]
        figures = [Figures(0.0, 0.0, 0.0)]
        if fault is None:
            if network.gate.metric == "mask_iou" and network.name.endswith("_encoder"):
                compared = self._decoded(NETWORKS[network.name.replace("encoder", "decoder")], found)
            figures = [comparison.figures(network, each) for each in compared]
        quality = Quality(
            network.name,
            precision,
            len(samples),
            max(difference.max_abs for difference in differences),
            fmean(figure.psnr_db for figure in figures),
            fmean(figure.ssim for figure in figures),
            judge(network, precision, differences, figures),
            fault,
            simulated,
        )
        return quality, compared

    def _decoded(self, decoder: Network, found: Sequence[Outputs]) -> list[Comparison]:
        """What the FP32 decoder makes of the reference's embeddings and of `found`, prompt by prompt."""
        samples = list(self.samples(decoder, "test"))
        decode = self.reference(decoder.name)
        prompts = len(samples) // len(found)  # of each photo
        return [
            Comparison(sample, decode(sample.inputs), decode({**sample.inputs, **found[index // prompts]}))
            for index, sample in enumerate(samples)
        ]

    def record(
        self, export: ExportedNetwork, precision: Precision, path: Path, fp32: Path
    ) -> tuple[Record, list[Comparison]]:
        """Measure the file at `path`; `fp32` is the same network in FP32, for its size and speed.

        Raises QualityError if the file does not run.
        """
        network = export.network
        quality, compared = self.measure(network, precision, path)
        speed = measure_speed(path, fp32, next(self.samples(network, "test")).inputs)
        # A network that was published as ONNX has no torch code, see `ExportedNetwork`.
        reference = "torch" if export.weights else "the published ONNX file"
        photos = tuple(photo.name for photo in self._photos["test"])
        return Record(quality, speed, reference, photos), compared


def _outputs(run: InferenceFn, samples: Sequence[Sample]) -> list[dict[str, Array]]:
    return [run(sample.inputs) for sample in samples]

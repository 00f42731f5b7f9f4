"""Where networks are measured: the photos, and the references of a checkpoint's networks."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nexus_export.exported import Array, ExportedNetwork, InferenceFn
from nexus_export.networks import Network, Precision
from nexus_export.quality.photos import Photo, Split, read_photos
from nexus_export.quality.record import Record
from nexus_export.quality.rows import Row, rows
from nexus_export.quality.speed import measure_speed
from nexus_export.quality.verify import Sample, measure

#: Loads the reference of a network by its name.
Others = Callable[[str], InferenceFn]


class Bench:
    """Measures networks that belong together, since a decoder's rows are what its encoder writes.

    Usage:

        bench = Bench(Path("demo/photos"))
        for export in exports:
            bench.add(export)
        record = bench.measure(export, "fp16", path, fp32)
    """

    def __init__(self, photos: Path, others: Others | None = None) -> None:
        """`others` loads the references of networks that are not added.

        Raises:
            QualityError: the folder holds fewer than two photos.
        """
        self._photos: dict[Split, list[Photo]] = {
            "calibration": read_photos(photos, "calibration"),
            "test": read_photos(photos, "test"),
        }
        self._others = others
        self._references: dict[str, Callable[[], InferenceFn]] = {}
        self._encoded: dict[bytes, dict[str, Array]] = {}
        #: The latest measurement's rows with both outputs.
        self.samples: list[Sample] = []

    def add(self, export: ExportedNetwork) -> None:
        """Make an export's reference known to the networks that read from it."""
        self._references[export.network.name] = export.reference

    def reference(self, name: str) -> InferenceFn:
        """The FP32 reference of the network of this name; loading it takes its time.

        Encoders, which several networks' rows are made by, run once for each input, and load when they must.
        """
        return self._remembering(name) if name.endswith("_encoder") else self._load(name)

    def _load(self, name: str) -> InferenceFn:
        if name in self._references or self._others is None:
            return self._references[name]()
        return self._others(name)

    def _remembering(self, name: str) -> InferenceFn:
        loaded: list[InferenceFn] = []

        def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
            content = b"".join(inputs[tensor].tobytes() for tensor in sorted(inputs))
            digest = hashlib.sha256(name.encode() + content).digest()
            if digest not in self._encoded:
                if not loaded:
                    loaded.append(self._load(name))
                self._encoded[digest] = loaded[0](inputs)
            return self._encoded[digest]

        return run

    def calibration(self, network: Network) -> Iterator[Row]:
        """The rows that INT8's ranges are taken from."""
        return rows(network, "calibration", self._photos["calibration"], self.reference)

    def measure(self, export: ExportedNetwork, precision: Precision, path: Path, fp32: Path) -> Record:
        """Hold the file at `path` to the network's gate; `fp32` is the same network in FP32, for its size and speed.

        Raises:
            QualityError: the file does not run.
        """
        network, photos = export.network, self._photos["test"]
        quality, self.samples = measure(network, precision, path, photos, self.reference)
        row = {tensor.name: self.samples[0].row[tensor.name] for tensor in network.inputs}
        speed = measure_speed(path, fp32, row)
        # Where a network was published as ONNX there is no torch code of it, see `ExportedNetwork`.
        reference = "torch" if export.weights else "the published ONNX file"
        return Record(quality, speed, reference, tuple(photo.name for photo in photos))

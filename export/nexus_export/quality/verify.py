"""Measure an artifact against its network's FP32 reference on real photos, and hold it to its gate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from nexus_export.errors import QualityError
from nexus_export.exported import Array, InferenceFn
from nexus_export.networks import Network, Precision
from nexus_export.quality import comparison
from nexus_export.quality.comparison import Figures, Outputs
from nexus_export.quality.gate import Verdict, judge
from nexus_export.quality.photos import Photo, Pixels
from nexus_export.quality.rows import Row, Upstream, framed, prompts_of, rows
from nexus_export.quality.simulation import served_run

#: An image encoder's quality is that of the masks which the FP32 decoder makes of its embedding.
_DECODERS = {"sam_encoder": "sam_decoder", "sam2_encoder": "sam2_decoder"}

#: What Python and onnxruntime say of too little memory.
_OUT_OF_MEMORY = ("failed to allocate memory", "bad_alloc", "bad allocation", "unable to allocate")


@dataclass(frozen=True)
class Sample:
    """A row, with the reference's outputs and the artifact's; an encoder's are those of the decoder behind it.

    `photo` is what a decoder's prompts were put on, UINT8 [H, W, 3], which it does not take.
    """

    row: Row
    reference: Outputs
    found: Outputs
    photo: Pixels | None = None


@dataclass(frozen=True)
class Quality:
    """How good an artifact is: means over `rows` rows, and the largest difference of them all.

    `simulated` tells that its FP16 tensors were rounded as a GPU does, see `precision.simulation`.
    """

    network: str
    precision: Precision
    rows: int
    max_abs: float
    psnr_db: float
    ssim: float
    verdict: Verdict
    fault: str | None
    simulated: bool

    @property
    def passed(self) -> bool:
        return self.fault is None and self.verdict.passed

    def complaint(self) -> str:
        """One sentence on what is wrong."""
        what = self.verdict.words() if self.fault is None else f"its output {self.fault}"
        return f"{self.network} at {self.precision} is not good enough ({what})"


def measure(
    network: Network, precision: Precision, path: Path, photos: Sequence[Photo], references: Upstream
) -> tuple[Quality, list[Sample]]:
    """Run the file at `path` and the network's reference on the same rows of the test split.

    One network is in memory at a time. `references` loads any network of the same checkpoint, in FP32.

    Raises:
        QualityError: the file cannot be loaded or run, or memory does not suffice.
    """
    made = list(rows(network, "test", photos, references))
    expected = _outputs(references(network.name), made)
    try:
        run, simulated = served_run(path)
        found = _outputs(run, made)
        del run
    except Exception as error:
        if any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise QualityError(
                f"{network.name} does not fit in this machine's memory; measure it on one with more."
            ) from None
        # onnxruntime's classes are private, and its texts are of node names and source files.
        raise QualityError(
            f"{network.name} does not run ({type(error).__name__}: its file {path.name} is damaged or not this "
            f"network's); build it again: nexus-export build {network.name}."
        ) from None
    pairs = list(zip(expected, found, strict=True))
    fault = next((text for one, other in pairs if (text := comparison.fault(one, other))), None)
    differences = comparison.differences(expected, found)
    frames = _frames(network, photos, len(made))
    samples = [Sample(row, *pair, frame) for row, pair, frame in zip(made, pairs, frames, strict=True)]
    if network.name in _DECODERS and fault is None:
        samples = _decoded(network, samples, photos, references(_DECODERS[network.name]))
    if fault is None:
        figures = [comparison.figures(network, item.row, item.reference, item.found) for item in samples]
    else:
        figures = [Figures(0.0, 0.0, 0.0)]
    quality = Quality(
        network.name,
        precision,
        len(made),
        max(difference.max_abs for difference in differences),
        fmean(figure.psnr_db for figure in figures),
        fmean(figure.ssim for figure in figures),
        judge(network, precision, differences, figures),
        fault,
        simulated,
    )
    return quality, samples


def _outputs(run: InferenceFn, made: Sequence[Row]) -> list[dict[str, Array]]:
    return [run(row) for row in made]


def _frames(network: Network, photos: Sequence[Photo], count: int) -> list[Pixels] | list[None]:
    """The photo behind each of a decoder's rows, of which all photos have as many."""
    if network.name not in _DECODERS.values():
        return [None] * count
    frames = [framed(network, photo) for photo in photos]
    return [frames[index * len(frames) // count] for index in range(count)]


def _decoded(
    network: Network, samples: Sequence[Sample], photos: Sequence[Photo], decode: InferenceFn
) -> list[Sample]:
    """What the decoder makes of both embeddings, prompt by prompt."""
    decoded = []
    for index, (sample, photo) in enumerate(zip(samples, photos, strict=True)):
        for prompt in prompts_of(network, photo, "test", index):
            row = {**sample.row, **prompt}
            decoded.append(
                Sample(row, decode({**sample.reference, **prompt}), decode({**sample.found, **prompt}))
            )
    return decoded

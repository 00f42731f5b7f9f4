"""The files that generative fill reads beside its networks: CLIP's merges, and the facts of each tier."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nexus_export.diffusion import clip_vocabulary
from nexus_export.onnx_graphs.writing import write_file
from nexus_export.sources import CLIP_VOCABULARY, Report, fetch


@dataclass(frozen=True)
class TierFacts:
    """What the pipeline must know of one tier's networks."""

    side: int  # of the square picture that the UNet was trained on, in pixels
    latent_rgb: Sequence[Sequence[float]]  # [5,3], see latent_rgb
    random_weights: bool  # nobody trained them: they paint noise

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def write_fill_files(repository: Path, tier: str, facts: str, cache: Path, report: Report) -> None:
    """Write merges.txt and `facts`, the JSON of `TierFacts`, as <tier>.json; what is the same is left alone.

    Raises:
        SourceError: CLIP's vocabulary could not be fetched.
        BuildError: the repository cannot be written.
    """
    folder = repository / "generative_fill" / "1"
    if not _holds_merges(folder / "merges.txt"):
        merges = clip_vocabulary.read_published(fetch(CLIP_VOCABULARY, cache, report))
        write_file(folder / "merges.txt", clip_vocabulary.merges_text(merges).encode())
    path = folder / f"{tier}.json"
    if not path.is_file() or path.read_text() != facts:
        write_file(path, facts.encode())


def _holds_merges(path: Path) -> bool:
    if not path.is_file():
        return False
    lines = path.read_bytes().decode(errors="replace").rstrip("\n").split("\n")
    return clip_vocabulary.merges_sha256(lines[1:]) == clip_vocabulary.MERGES_SHA256

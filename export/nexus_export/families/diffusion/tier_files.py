"""The files that generative fill reads beside its networks: CLIP's merges, and the configuration of each tier."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nexus_export.downloads.packages import CLIP_VOCABULARY, fetch
from nexus_export.families.diffusion import clip_vocabulary
from nexus_export.files import Report, write_file


@dataclass(frozen=True)
class TierConfig:
    """What the pipeline reads about the networks of one tier."""

    side: int  # of the square picture that the UNet was trained on, in pixels
    latent_rgb: Sequence[Sequence[float]]  # [5,3], see tier_config
    random_weights: bool  # untrained: they paint noise

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def write_tier_files(repository: Path, tier: str, config: str, cache: Path, report: Report) -> None:
    """Write merges.txt and `config`, the JSON of `TierConfig`, as <tier>.json; leave alone what is the same.

    Raises SourceError if CLIP's vocabulary could not be fetched, BuildError if the repository cannot be written.
    """
    folder = repository / "generative_fill" / "1"
    if not _holds_merges(folder / "merges.txt"):
        merges = clip_vocabulary.read_published(fetch(CLIP_VOCABULARY, cache, report))
        write_file(folder / "merges.txt", clip_vocabulary.merges_text(merges).encode())
    path = folder / f"{tier}.json"
    if not path.is_file() or path.read_text() != config:
        write_file(path, config.encode())


def _holds_merges(path: Path) -> bool:
    if not path.is_file():
        return False
    lines = path.read_bytes().decode(errors="replace").rstrip("\n").split("\n")
    return clip_vocabulary.merges_sha256(lines[1:]) == clip_vocabulary.MERGES_SHA256

"""CLIP's vocabulary from the published file: the lists that transformers' tokenizer folder holds."""

from collections.abc import Callable
from pathlib import Path

from nexus_export.downloads.packages import CLIP_VOCABULARY, PinnedFile
from nexus_export.families.diffusion import clip_vocabulary
from nexus_export.families.diffusion.tier_files import write_tier_files

CACHE = Path(__file__).parents[4] / "build" / "cache"


def test_merges_and_tokens_are_clip_s(published: Callable[[PinnedFile], Path]) -> None:
    merges = clip_vocabulary.read_published(published(CLIP_VOCABULARY))
    assert (merges[0], merges[-1], len(merges)) == ("i n", "jeky ll</w>", 48_894)
    assert clip_vocabulary.merges_sha256(merges) == clip_vocabulary.MERGES_SHA256
    tokens = clip_vocabulary.vocabulary(merges)
    assert len(tokens) == 49_408
    # Of the published vocab.json: the first byte, a byte that ends a word, the first merge, whole words, the ends.
    known = {"!": 0, "!</w>": 256, "in": 512, "a</w>": 320, "cat</w>": 2368, "<|startoftext|>": 49406}
    assert {token: tokens[token] for token in known} == known
    assert tokens["<|endoftext|>"] == 49407


def test_files_beside_the_pipeline_are_mended(
    published: Callable[[PinnedFile], Path], tmp_path: Path
) -> None:
    published(CLIP_VOCABULARY)
    folder = tmp_path / "generative_fill" / "1"

    def write() -> None:
        write_tier_files(tmp_path, "sdxl", '{"side": 1}\n', CACHE, lambda _: None)

    write()
    good = (folder / "merges.txt").read_bytes()
    written = (folder / "merges.txt").stat().st_mtime_ns
    write()
    assert (folder / "merges.txt").stat().st_mtime_ns == written
    (folder / "merges.txt").write_bytes(good[:-1000])
    (folder / "sdxl.json").write_text("{")
    write()
    assert (folder / "merges.txt").read_bytes() == good
    assert (folder / "sdxl.json").read_text() == '{"side": 1}\n'
    assert sorted(path.name for path in folder.iterdir()) == ["merges.txt", "sdxl.json"]

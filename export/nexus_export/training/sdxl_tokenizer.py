"""CLIP's byte-pair vocabulary: the tokenizer folders of the checkpoint, and token ids of training captions.

Captions are plain lower-case words, so a word's tokens depend on nothing around it. Knows nothing of networks.
"""

import gzip
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LENGTH = 77
START, END = 49406, 49407
MERGES = 49152 - 256 - 2
"""The published vocabulary: 2 x 256 bytes (inside and at the end of a word), the merges, start and end."""

PADDING = {"tokenizer": END, "tokenizer_2": 0}
"""What follows the end token up to 77, by tokenizer folder: SDXL's second tokenizer pads with "!"."""

END_OF_WORD = "</w>"


class Vocabulary:
    """Tokens and merges as OpenAI published them (bpe_simple_vocab_16e6.txt.gz, or a folder's merges.txt)."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        # The first line is a version comment; the published file holds more merges than CLIP uses.
        self.merges = [tuple(line.split()) for line in text.split("\n")[1 : MERGES + 1]]
        letters = _byte_letters()
        words = letters + [letter + END_OF_WORD for letter in letters] + ["".join(m) for m in self.merges]
        words += ["<|startoftext|>", "<|endoftext|>"]
        self.ids = {word: index for index, word in enumerate(words)}
        self.ranks = {merge: rank for rank, merge in enumerate(self.merges)}
        self.word_tokens = lru_cache(maxsize=None)(self._word_tokens)

    def _word_tokens(self, word: str) -> tuple[int, ...]:
        parts = [*word[:-1], word[-1] + END_OF_WORD]
        while len(parts) > 1:
            pairs = list(zip(parts, parts[1:], strict=False))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, MERGES))
            if best not in self.ranks:
                break
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        return tuple(self.ids[part] for part in parts)

    def encode(self, captions: Sequence[str]) -> NDArray[np.int32]:
        """Ids [2, len(captions), 77]: padded as the first and as the second tokenizer does."""
        ids = np.empty((2, len(captions), LENGTH), np.int32)
        for which, padding in enumerate(PADDING.values()):
            ids[which] = padding
        for row, caption in enumerate(captions):
            words = caption.replace(",", " ,").split()
            tokens = [START, *(token for word in words for token in self.word_tokens(word)), END]
            ids[:, row, : len(tokens)] = tokens
        return ids

    def write(self, folder: Path) -> None:
        """Write the folders ``tokenizer`` and ``tokenizer_2`` of a diffusers checkpoint into ``folder``."""
        for name, padding in PADDING.items():
            target = folder / name
            target.mkdir(parents=True, exist_ok=True)
            (target / "vocab.json").write_text(json.dumps(self.ids, ensure_ascii=False), encoding="utf-8")
            lines = ["#version: 0.2", *(" ".join(merge) for merge in self.merges), ""]
            (target / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
            special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
            special |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>" if padding else "!"}
            config = special | {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}
            (target / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
            (target / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def _byte_letters() -> list[str]:
    """The printable character that stands for each byte, in the vocabulary's order: printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(others)]

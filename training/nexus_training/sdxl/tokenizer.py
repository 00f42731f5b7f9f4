"""CLIP's byte-pair vocabulary: token ids of training captions.

Captions are plain lower-case words, so a word's tokens do not depend on its neighbours. Independent of the networks.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from nexus_export.families.diffusion.clip_vocabulary import MERGES, read_published, vocabulary
from numpy.typing import NDArray

LENGTH = 77
START, END = 49406, 49407
# Padding ids after the end token: SDXL's second tokenizer pads with "!".
PADDING = (END, 0)

END_OF_WORD = "</w>"


class Vocabulary:
    """Tokens and merges as OpenAI published them, from bpe_simple_vocab_16e6.txt.gz."""

    def __init__(self, path: Path) -> None:
        self.merges = read_published(path)
        self.ids = vocabulary(self.merges)
        self.ranks = {tuple(merge.split()): rank for rank, merge in enumerate(self.merges)}
        self.word_tokens = lru_cache(maxsize=None)(self._word_tokens)

    def _word_tokens(self, word: str) -> tuple[int, ...]:
        parts = [*word[:-1], word[-1] + END_OF_WORD]
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self.ranks.get(pair, MERGES))
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
        """Encode to ids [2, len(captions), 77], padded like the first and like the second tokenizer."""
        ids = np.empty((2, len(captions), LENGTH), np.int32)
        for which, padding in enumerate(PADDING):
            ids[which] = padding
        for row, caption in enumerate(captions):
            words = caption.replace(",", " ,").split()
            tokens = [START, *(token for word in words for token in self.word_tokens(word)), END]
            ids[:, row, : len(tokens)] = tokens
        return ids

"""CLIP's tokenizer: a prompt as the token ids of CLIP's text encoders, in the standard library alone.

The text is put in NFC and lower case, split into words (letters, single digits, runs of other symbols, the English
contractions), and each word's UTF-8 bytes are merged by byte-pair encoding (Radford et al. 2021, arXiv:2103.00020). The
ids are those of transformers' CLIPTokenizer with the published checkpoints, with two differences:

- Text is only ever text. "<|endoftext|>" in a prompt is its letters and symbols; transformers takes it for the end.
- A character newer than the Unicode tables of this Python (14 in Python 3.11) counts as a symbol.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Tokens that a text encoder takes, including the start and the end.
CONTEXT_LENGTH = 77
# The last byte of a word is a symbol of its own, that many ids further on.
_END_OF_WORD = 256
# Words of more characters are rarely met again, and are not kept in the cache with their tokens.
_LONGEST_KEPT = 64
# Bytes whose Latin-1 character is visible come first and stand for themselves; the rest are characters from 256 on.
_VISIBLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_BYTES_BY_ID = (*_VISIBLE, *(byte for byte in range(256) if byte not in _VISIBLE))

_CONTRACTION = re.compile("'(?:s|t|re|ve|m|ll|d)")
# Unicode's White_Space; Python counts four separators of ASCII as well, which are symbols here.
_WHITESPACE = re.compile(r"[^\S\x1c-\x1f]+")


class Encoding(NamedTuple):
    """`ids` INT32 [77]: start, text, end, padding. `ignored`: the end of the text that did not fit, or ""."""

    ids: npt.NDArray[np.int32]
    ignored: str


class ClipTokenizer:
    """Tokens by the merges of a vocabulary, in their order: `tokenizer.encode("a red fox", pad=49407).ids`.

    The ids follow from the merges: 256 bytes, 256 bytes that end a word, the merges, then the start and the end of
    text (49406 and 49407 of the published 48,894 merges). It may be shared between threads.
    """

    def __init__(self, merges: Iterable[tuple[str, str]]) -> None:
        ids: dict[str, int] = {}
        for index, byte in enumerate(_BYTES_BY_ID):
            symbol = chr(byte) if index < len(_VISIBLE) else chr(256 + index - len(_VISIBLE))
            ids[symbol], ids[f"{symbol}</w>"] = index, index + _END_OF_WORD
        self._id_of_byte = {byte: index for index, byte in enumerate(_BYTES_BY_ID)}
        self._lengths = [1] * len(ids)  # of each token, in bytes
        self._merged: dict[tuple[int, int], int] = {}
        for left, right in merges:
            pair, merged = (ids[left], ids[right]), len(ids)
            ids[left + right] = self._merged[pair] = merged
            self._lengths.append(self._lengths[pair[0]] + self._lengths[pair[1]])
        self.start, self.end = len(ids), len(ids) + 1
        self._tokens = lru_cache(maxsize=4096)(self._merge)

    @classmethod
    def load(cls, merges: Path) -> ClipTokenizer:
        """Read a checkpoint's merges.txt: a line with the version, then one merge of two symbols a line."""
        lines = merges.read_text(encoding="utf-8").splitlines()[1:]
        return cls((left, right) for left, right in (line.split(" ") for line in lines))

    def encode(self, text: str, pad: int) -> Encoding:
        """Encode `text`, padded with `pad`; the part that does not fit is returned as it was read, in lower case.

        `pad` is 49407 for SD 1.5 and for SDXL's first encoder, 0 for its second.
        """
        # by the character: str.lower() would write the sigma that ends a Greek word in another way
        clean = "".join(map(str.lower, _WHITESPACE.sub(" ", unicodedata.normalize("NFC", text))))
        ids, ignored = [self.start], ""
        for first, last in _words(clean):
            word = clean[first:last]
            tokens = self._tokens(word) if len(word) <= _LONGEST_KEPT else self._merge(word)
            room = CONTEXT_LENGTH - 1 - len(ids)
            ids += tokens[:room]
            if len(tokens) > room:
                ignored = self._after(clean[first:], tokens[:room])
                break
        ids.append(self.end)
        padding = [pad] * (CONTEXT_LENGTH - len(ids))
        return Encoding(np.array(ids + padding, np.int32), ignored)

    def _after(self, text: str, tokens: tuple[int, ...]) -> str:
        """The text behind its first tokens, including the character that they end inside, if any."""
        encoded = text.encode()
        cut = sum(self._lengths[token] for token in tokens)
        while encoded[cut] & 0b1100_0000 == 0b1000_0000:
            cut -= 1
        return encoded[cut:].decode().strip()

    def _merge(self, word: str) -> tuple[int, ...]:
        """Apply every merge to a word's bytes, the earliest in the vocabulary first, from left to right.

        Symbols are a linked list and the merges that may apply a heap, so that a word of any length is quick.
        """
        symbols = [self._id_of_byte[byte] for byte in word.encode()]
        symbols[-1] += _END_OF_WORD
        before, after = list(range(-1, len(symbols) - 1)), [*range(1, len(symbols)), -1]
        candidates: list[tuple[int, int]] = []

        def consider(left: int, right: int) -> None:
            if left >= 0 and right >= 0 and (merged := self._merged.get((symbols[left], symbols[right]))):
                heapq.heappush(candidates, (merged, left))

        for left in range(len(symbols)):
            consider(left, after[left])
        while candidates:
            merged, left = heapq.heappop(candidates)
            right = after[left]
            if right < 0 or self._merged.get((symbols[left], symbols[right])) != merged:
                continue  # another merge has taken one of the two
            symbols[left], symbols[right] = merged, -1
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            consider(before[left], left)
            consider(left, after[left])
        return tuple(symbol for symbol in symbols if symbol >= 0)


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Yield the bounds of cleaned text's words: contractions, runs of letters, single digits, runs of symbols."""
    first = 0
    while first < len(text):
        last = first + 1
        kind = _kind(text[first])
        if contraction := _CONTRACTION.match(text, first):
            last = contraction.end()
        elif kind != "N":
            while last < len(text) and _kind(text[last]) == kind:
                last += 1
        if kind != " ":
            yield first, last
        first = last


def _kind(character: str) -> str:
    """ "L" for a letter, "N" for a digit or number, " " for the space, "S" for any other symbol."""
    if character == " ":
        return " "
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "S"

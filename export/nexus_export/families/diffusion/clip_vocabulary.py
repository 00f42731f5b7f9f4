"""CLIP's byte-pair vocabulary, from the file that openai/clip publishes.

The published file holds more merges than CLIP was trained with; like its tokenizer (clip/simple_tokenizer.py)
we take the first 48,894 after the header. This module makes the lists; it does not tokenize.
"""

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

MERGES = 48_894
START, END = "<|startoftext|>", "<|endoftext|>"
HEADER = "#version: 0.2"

# Of the merges alone, a line each, without the header.
MERGES_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"


def read_published(path: Path) -> list[str]:
    """The merges of bpe_simple_vocab_16e6.txt.gz in order of rank, each "left right"."""
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    return lines[1 : MERGES + 1]


def merges_sha256(merges: Sequence[str]) -> str:
    """The SHA-256 of a list of merges; CLIP's have `MERGES_SHA256`."""
    return hashlib.sha256("\n".join(merges).encode()).hexdigest()


def merges_text(merges: Sequence[str]) -> str:
    """The merges as a merges.txt of transformers: a version line, then a merge a line."""
    return "\n".join([HEADER, *merges]) + "\n"


def vocabulary(merges: Sequence[str]) -> dict[str, int]:
    """Token to id, 49,408 of them: bytes, bytes that end a word, merges, start and end of the text."""
    units = _byte_units()
    tokens = [*units, *(unit + "</w>" for unit in units), *(m.replace(" ", "") for m in merges), START, END]
    return {token: index for index, token in enumerate(tokens)}


def _byte_units() -> list[str]:
    """A printable character for each byte, in CLIP's order: printable bytes as themselves, others from U+0100."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = 256 - len(printable)
    return [chr(code) for code in (*printable, *range(256, 256 + others))]

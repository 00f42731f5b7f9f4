"""The content filter: rejects prompts that ask for content that this service does not paint, before any work is done.

It knows words, not meanings: whole words and phrases of a word file (the head of content_words.txt explains how to
write one and the decisions about near-misses), found through the usual obfuscations. It reads a prompt in four ways,
each in time proportional to the prompt's length:

- its words: runs of letters and digits, with l33t digits read as letters, and with digits around the word left out;
- its chunks between spaces, with l33t symbols read as letters and joiners left out: "sh!t", "nu-de", "f*ck", and once
  more without brackets: "(n)ude";
- its chunks in which stars hide letters one by one, between the first and the last: "n*de", "f**k";
- its letters that stand alone, run together: "n u d e", "n.u.d.e".

In all but the stars letters may be repeated ("nuuude"), or else i, l and their substitutes confused.
Not detected: words run together ("nakedwoman"), words broken in two by a space ("nu de"), letters left out or swapped,
synonyms, other languages unless the word file lists them, and languages written without spaces.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from nexus_ensembles.errors import BadInput
from nexus_ensembles.prompts.text_normalization import Spelling, fold, fold_look_alikes, from_leet, squeeze

WORD_FILE = Path(__file__).with_name("content_words.txt")
ALLOWED = "allowed"

# The longest prompt once its characters are written out as letters: a single character may stand for 18.
MOST_LETTERS = 1024

_JOINERS = dict.fromkeys(map(ord, "-._*~#=^`·•"))
_WORD = re.compile(r"[^\W_]+")
_CHUNK = re.compile(r"[\w@$!|+(€£¢\-.*~#=^`·•]+")
_SINGLE = re.compile(r"[^\W_]+|[@$!|]")
_BRACKETS = dict.fromkeys(map(ord, "()[]{}<>"))
_STARRED = re.compile(r"[^\W\d_]+\*+[^\W\d_]+")
_EDGES = "!(-._*~#=^`·•"
_DIGITS = "0123456789"
# Letters spelled one by one show no word's ends: only words of at least this many are looked for among them.
_LEAST_SPELLED = 4

_spelling = functools.lru_cache(maxsize=1024)(Spelling.of)


class Phrases:
    """Phrases with a label each, to be found in a sequence of words: a tree, walked from every word on.

    `matches(found, expected)` decides between words that agree up to repeated letters and i or l.
    """

    def __init__(self, matches: Callable[[Spelling, Spelling], bool]) -> None:
        self._matches = matches
        self._next: dict[str, Phrases] = {}
        self._ends: list[tuple[list[Spelling], str]] = []

    def add(self, words: Sequence[str], label: str) -> None:
        node = self
        for word in words:
            node = node._next.setdefault(squeeze(word), Phrases(self._matches))
        node._ends.append(([Spelling.of(word) for word in words], label))

    def find(self, words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
        """Yield each phrase in `words`: the index of its first word, the index after its last, its label."""
        squeezed = [squeeze(word) for word in words]
        for start in range(len(words)):
            node = self
            for stop in range(start, len(words)):
                following = node._next.get(squeezed[stop])
                if following is None:
                    break
                node = following
                if node._ends:
                    spelled = [_spelling(word) for word in words[start : stop + 1]]
                    for phrase, label in node._ends:
                        if all(map(self._matches, spelled, phrase)):
                            yield start, stop + 1, label


class ContentFilter:
    """`ContentFilter.load("on").check(prompt)`; negative prompts are not checked: they name things NOT to paint."""

    def __init__(self, entries: Iterable[tuple[str, str]]) -> None:
        """`entries` are (category, word or phrase); the category ALLOWED lists the harmless ones."""
        # forbidden in any spelling, allowed in none but their own
        self._words = Phrases(Spelling.is_obfuscation_of), Phrases(Spelling.__eq__)
        self._letters = Phrases(Spelling.is_obfuscation_of), Phrases(Spelling.__eq__)
        # forbidden words by their length, first and last letter, with their categories
        self._starred: dict[tuple[int, str, str], list[tuple[str, str]]] = {}
        for category, entry in entries:
            words = _WORD.findall(fold(entry))
            allowed = category == ALLOWED
            self._words[allowed].add(words if allowed else [from_leet(word) for word in words], category)
            if len(words) == 1 and (allowed or len(words[0]) >= _LEAST_SPELLED):
                self._letters[allowed].add(words[0], category)
            if len(words) == 1 and not allowed:
                self._starred.setdefault(_ends(words[0]), []).append((words[0], category))

    @classmethod
    def load(cls, setting: str) -> ContentFilter:
        """Make the filter of a config's setting: "on" (our own word file), "off", or the path of a word file.

        Raises ValueError when the file cannot be read or rejects nothing.
        """
        if setting == "off":
            return cls([])
        path = WORD_FILE if setting == "on" else Path(setting)
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ValueError(
                f'content_filter: {setting} is no readable text file; give "on", "off" or the path of one.'
            ) from error
        category, entries = "", []
        for line in (line.partition("#")[0].strip() for line in lines):
            if line.startswith("["):
                category = line.strip("[] ")
            elif line and not category:
                raise ValueError(f'content_filter: {setting} must begin with a category, like "[violence]".')
            else:
                entries += [(category, entry) for entry in line.split(",") if entry.strip()]
        if all(category == ALLOWED for category, _ in entries):
            raise ValueError(
                f'content_filter: {setting} lists no word to reject; "off" switches the filter off.'
            )
        return cls(entries)

    def check(self, prompt: str) -> None:
        """Raise BadInput, naming the category and not the word, if the word file rejects `prompt`."""
        written = fold(prompt)
        if len(written) > MOST_LETTERS:
            raise BadInput(
                f"the prompt has more than {MOST_LETTERS} letters once signs that stand for several are written out; "
                "shorten it."
            )
        # as it is written, for words of other scripts, and as it looks
        readings = dict.fromkeys((written, fold_look_alikes(prompt)))
        if category := next(filter(None, map(self._category, readings)), None):
            raise BadInput(
                f"the prompt asks for {category}, which this service does not paint; ask for something else."
            )

    def _category(self, text: str) -> str | None:
        words = _WORD.findall(text)
        chunks = [chunk.strip(_EDGES) for chunk in _CHUNK.findall(text)]
        unbracketed = [chunk.strip(_EDGES) for chunk in _CHUNK.findall(text.translate(_BRACKETS))]
        sequences = [
            (words, [from_leet(word) for word in words]),
            (words, [word.strip(_DIGITS) or word for word in words]),
        ]
        for parts in (chunks, unbracketed):
            joined = [part.translate(_JOINERS) for part in parts]
            sequences.append((joined, [from_leet(word) for word in joined]))
        different = [pair for index, pair in enumerate(sequences) if pair not in sequences[:index]]
        spelled = [
            "".join(run).strip("!|")
            for alone, run in itertools.groupby(_SINGLE.findall(text), lambda word: len(word) == 1)
            if alone
        ]
        return next(
            filter(
                None,
                itertools.chain(
                    (_offence(raw, read, *self._words) for raw, read in different),
                    map(self._starred_category, unbracketed),
                    map(self._spelled_category, spelled),
                ),
            ),
            None,
        )

    def _starred_category(self, chunk: str) -> str | None:
        """The category of a forbidden word whose inner letters are hidden by stars, one star each."""
        if not _STARRED.fullmatch(chunk):
            return None
        for word, category in self._starred.get(_ends(chunk), []):
            if all(seen in ("*", letter) for seen, letter in zip(chunk, word)):
                return category
        return None

    def _spelled_category(self, letters: str) -> str | None:
        """The category of a forbidden word among letters that stood alone."""
        if sum(map(str.isalpha, letters)) < 2:
            return None
        read = from_leet(letters)
        return _offence([letters], [read], *self._words) or _offence(letters, read, *self._letters)


def _offence(raw: Sequence[str], read: Sequence[str], forbidden: Phrases, allowed: Phrases) -> str | None:
    """The label of the first forbidden phrase in `read` that lies within no allowed phrase of `raw`, word by word."""
    excused: list[int] = []
    for start, stop, label in forbidden.find(read):
        excused = excused or _furthest_ends(raw, allowed)
        if excused[start] < stop:
            return label
    return None


def _ends(word: str) -> tuple[int, str, str]:
    return len(word), word[0], word[-1]


def _furthest_ends(words: Sequence[str], phrases: Phrases) -> list[int]:
    """For each word, the furthest end of a phrase that begins at it or before."""
    ends = [0] * len(words)
    for start, stop, _ in phrases.find(words):
        ends[start] = max(ends[start], stop)
    return list(itertools.accumulate(ends, max))

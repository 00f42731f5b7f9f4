"""Undoes obfuscations of a word: look-alike letters, l33t spelling, marks, invisible and repeated characters."""

from __future__ import annotations

import itertools
import re
import unicodedata
from typing import NamedTuple

# Letters that look like a Latin one: left of the plus from the confusables of Unicode Technical Standard 39 (its
# Cyrillic, Greek, Armenian, Cherokee and Latin rows), right of it small capitals and "faux Cyrillic", added here.
_LOOK_ALIKES = {
    "a": "аАαΑɑᎪ" + "ᴀ",
    "b": "ЬВΒᏴᏏ" + "ʙвβ",
    "c": "сСϲςϹᴄᏟꮯ",
    "d": "ԁᎠᏧ" + "ᴅđð",
    "e": "еЕҽΕᎬ℮" + "ᴇεє",
    "f": "Ϝքꞙ" + "ꜰƒ",
    "g": "ɡցԌᏀ" + "ɢ",
    "h": "һНΗհᎻ" + "ʜħ",
    "i": "іІιΙıɩɪꙇӏӀƖǀᎥ∣",
    "j": "јЈϳᎫ" + "ᴊ",
    "k": "КΚᏦ" + "ᴋкκ",
    "l": "Ꮮ" + "ʟł",
    "m": "МΜᎷ" + "ᴍм",
    "n": "Νոռ" + "ɴпиη",
    "o": "оОοΟσօՕᴏ" + "øØ",
    "p": "рРρΡᏢ" + "ᴘ",
    "q": "ԛզ",
    "r": "гꭇᎡᏒ" + "ʀя",
    "s": "ѕЅꜱՏᏕᏚ",
    "t": "ТΤᎢ" + "ᴛтτ",
    "u": "υսՍᴜʋ",
    "v": "νѵѴᴠᏙ",
    "w": "ѡԝԜᴡɯաᎳ" + "ωш",
    "x": "хХΧ" + "χ",
    "y": "уУүΥγɣᎩ" + "ʏ",
    "z": "ΖᏃᴢ",
}
_LETTERS = {ord(letter): latin for latin, letters in _LOOK_ALIKES.items() for letter in letters}
# White on black circles and squares, and the letters of flags: no compatibility decomposition, but in order A to Z.
for _first in (0x1F150, 0x1F170, 0x1F1E6):
    _LETTERS.update({_first + number: chr(ord("a") + number) for number in range(26)})
# Categories of Unicode: format characters, marks, controls.
_INVISIBLE = {"Cf", "Mn", "Me", "Cc"}
# Letters, by their category, that are invisible.
_FILLERS = "\u115f\u1160"

_REPEATED = re.compile(r"(.)\1+", re.DOTALL)
_LEET = str.maketrans("0123456789@$!|+(€£¢", "oizeasgtbgasiitcelc")


def fold(text: str) -> str:
    """Fold to lower-case letters of one form each (NFKD), without combining marks and invisible characters."""
    decomposed = unicodedata.normalize("NFKD", text)
    visible = (character for character in decomposed if character.isspace() or not _is_invisible(character))
    return "".join(visible).casefold()


def fold_look_alikes(text: str) -> str:
    """Fold, and turn letters that look like a Latin one into it."""
    # before folding as well: the Greek capital that looks like N has a small letter that looks like v
    return fold(unicodedata.normalize("NFKD", text).translate(_LETTERS)).translate(_LETTERS)


def from_leet(word: str) -> str:
    """Read digits and symbols of `word` as letters, if it has a letter of its own."""
    if word.isalpha():
        return word  # most words are, and this is quick
    return word.translate(_LEET) if any(map(str.isalpha, word)) else word


def squeeze(word: str) -> str:
    """Reduce `word` to the part that all its obfuscations share: no repetitions, and i for every l."""
    plain = word.replace("l", "i")
    return _REPEATED.sub(r"\1", plain) if len(word) > 1 else plain


class Spelling(NamedTuple):
    """A word as letters without their repetitions, and the count of each, also with i for every l."""

    letters: str
    counts: tuple[int, ...]
    folded_counts: tuple[int, ...]

    @classmethod
    def of(cls, word: str) -> Spelling:
        return cls(*_runs(word), _runs(word.replace("l", "i"))[1])

    def is_obfuscation_of(self, word: Spelling) -> bool:
        """True if this is `word` with repeated letters, or with i and l confused; the two are equal when `squeeze`d.

        Both at once would be too much: "public", "pubic".
        """
        repeated = self.letters == word.letters and all(map(int.__ge__, self.counts, word.counts))
        return repeated or self.folded_counts == word.folded_counts


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE or character in _FILLERS


def _runs(word: str) -> tuple[str, tuple[int, ...]]:
    runs = [(letter, len(list(run))) for letter, run in itertools.groupby(word)]
    return "".join(letter for letter, _ in runs), tuple(count for _, count in runs)

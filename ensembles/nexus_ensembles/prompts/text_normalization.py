"""Takes off the disguises of a word: look-alike letters, l33t spelling, marks, invisible and repeated signs."""

from __future__ import annotations

import itertools
import re
import unicodedata
from typing import NamedTuple

# Letters that look like a Latin one: on the left of the plus from the confusables of Unicode Technical Standard 39 (its
# Cyrillic, Greek, Armenian, Cherokee and Latin rows), on its right small capitals and "faux Cyrillic", added here.
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
_LETTERS = {ord(sign): latin for latin, signs in _LOOK_ALIKES.items() for sign in signs}
# White on black circles and squares, and the letters of flags: no compatibility decomposition, but in order A to Z.
for _first in (0x1F150, 0x1F170, 0x1F1E6):
    _LETTERS.update({_first + number: chr(ord("a") + number) for number in range(26)})
# Categories of Unicode: format characters, marks, controls.
_INVISIBLE = {"Cf", "Mn", "Me", "Cc"}
# Letters by their category that show nothing.
_FILLERS = "\u115f\u1160"

_REPEATED = re.compile(r"(.)\1+", re.DOTALL)
_LEET = str.maketrans("0123456789@$!|+(€£¢", "oizeasgtbgasiitcelc")


def fold(text: str) -> str:
    """Lower-case letters of one form each (NFKD), without combining marks and characters that show nothing."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(sign for sign in decomposed if sign.isspace() or not _is_invisible(sign)).casefold()


def fold_look_alikes(text: str) -> str:
    """The same, and what looks like a Latin letter becomes one."""
    # before folding as well: the Greek capital that looks like N has a small letter that looks like v
    return fold(unicodedata.normalize("NFKD", text).translate(_LETTERS)).translate(_LETTERS)


def from_leet(word: str) -> str:
    """`word` with digits and signs read as letters, if it has a letter of its own."""
    if word.isalpha():
        return word  # most are, and this is quick
    return word.translate(_LEET) if any(map(str.isalpha, word)) else word


def squeeze(word: str) -> str:
    """`word` without repetitions, and with i for every l: what all its disguises have in common."""
    plain = word.replace("l", "i")
    return _REPEATED.sub(r"\1", plain) if len(word) > 1 else plain


class Spelling(NamedTuple):
    """A word as letters without their repetitions, and how often each stands, also when i stands for every l."""

    letters: str
    counts: tuple[int, ...]
    folded_counts: tuple[int, ...]

    @classmethod
    def of(cls, word: str) -> Spelling:
        return cls(*_runs(word), _runs(word.replace("l", "i"))[1])

    def disguises(self, word: Spelling) -> bool:
        """Of two words equal when `squeeze`d: whether this is `word` with repeated letters, or with i and l confused.

        Both at once would be too much: "public", "pubic".
        """
        repeated = self.letters == word.letters and all(map(int.__ge__, self.counts, word.counts))
        return repeated or self.folded_counts == word.folded_counts


def _is_invisible(sign: str) -> bool:
    return unicodedata.category(sign) in _INVISIBLE or sign in _FILLERS


def _runs(word: str) -> tuple[str, tuple[int, ...]]:
    runs = [(letter, len(list(run))) for letter, run in itertools.groupby(word)]
    return "".join(letter for letter, _ in runs), tuple(count for _, count in runs)

"""CLIP's tokenizer on small vocabularies; tests/export compares it with transformers on the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nexus_ensembles.prompts.clip_tokenizer import ClipTokenizer

PAD = 0


def byte(character: str, ending: bool = False) -> int:
    """The id of a visible ASCII character, or of it at the end of a word: "!" is the first of each 256."""
    return ord(character) - ord("!") + (256 if ending else 0)


def spelled(*words: str) -> list[int]:
    """The ids of words without any merge."""
    return [byte(c, position == len(word) - 1) for word in words for position, c in enumerate(word)]


def content(tokenizer: ClipTokenizer, text: str) -> list[int]:
    """The ids between the start and the end."""
    ids: list[int] = tokenizer.encode(text, PAD).ids.tolist()
    assert ids[0] == tokenizer.start
    return ids[1 : ids.index(tokenizer.end)]


@pytest.fixture
def plain() -> ClipTokenizer:
    """Without merges: a token a byte."""
    return ClipTokenizer([])


def test_start_text_end_and_padding_are_77_ids(plain: ClipTokenizer) -> None:
    ids, ignored = plain.encode("ab c", pad=7)
    assert ids.dtype == np.int32
    assert ids.tolist() == [512, byte("a"), byte("b", True), byte("c", True), 513] + [7] * 72
    assert ignored == ""


@pytest.mark.parametrize("text", ["", " ", " \t\r\n\u3000"])
def test_no_text_is_a_start_and_an_end(plain: ClipTokenizer, text: str) -> None:
    assert plain.encode(text, PAD).ids.tolist() == [512, 513] + [PAD] * 75


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Red FOX", ["red", "fox"]),
        ("  red\t\n fox\u00a0\u2003", ["red", "fox"]),
        ("35mm f1", ["3", "5", "mm", "f", "1"]),
        ("fox,red!!! (8)", ["fox", ",", "red", "!!!", "(", "8", ")"]),
        ("don't it's I'LL he'd", ["don", "'t", "it", "'s", "i", "'ll", "he", "'d"]),
        ("'tis ''s rock'n", ["'t", "is", "''", "s", "rock", "'", "n"]),
        ("a_b", ["a", "_", "b"]),
        ("<|endoftext|>", ["<|", "endoftext", "|>"]),
    ],
)
def test_words(plain: ClipTokenizer, text: str, words: list[str]) -> None:
    assert content(plain, text) == spelled(*words)


def test_accents_are_composed_and_other_scripts_are_their_utf8_bytes(plain: ClipTokenizer) -> None:
    # the published ids of these bytes: 94 visible ones of ASCII, 12 from 0xA1, 82 from 0xAE, then all others in order
    c3, a9, a0 = 94 + 12 + 0xC3 - 0xAE, 94 + 0xA9 - 0xA1, 94 + 12 + 82 + 33 + 1 + 0xA0 - 0x80
    assert content(plain, "e\u0301") == content(plain, "É") == [c3, a9 + 256]
    assert content(plain, "À") == [c3, a0 + 256]


def test_the_separators_of_ascii_are_signs_where_python_has_them_as_space(plain: ClipTokenizer) -> None:
    control = 94 + 12 + 82  # of byte 0, the first that cannot be seen
    assert content(plain, "a\x1f\x85b") == [byte("a", True), control + 0x1F + 256, byte("b", True)]


def test_merges_apply_in_the_order_of_the_vocabulary_not_of_the_text() -> None:
    tokenizer = ClipTokenizer([("b", "c"), ("a", "b"), ("a", "bc")])
    assert (tokenizer.start, tokenizer.end) == (515, 516)
    assert content(tokenizer, "abcd") == [514, byte("d", True)]
    assert content(tokenizer, "abd") == [513, byte("d", True)]


def test_merges_apply_from_left_to_right_and_not_across_a_words_end() -> None:
    tokenizer = ClipTokenizer([("a", "a"), ("aa", "a</w>")])
    assert content(tokenizer, "aaa") == [513]
    assert content(tokenizer, "aaaa") == [512, byte("a"), byte("a", True)]
    assert content(tokenizer, "aa aa") == spelled("aa", "aa")


def test_a_merge_opens_others_on_both_sides() -> None:
    merges = [("l", "o"), ("lo", "w</w>"), ("s", "lo"), ("slo", "w"), ("slow", "er</w>"), ("e", "r</w>")]
    with pytest.raises(KeyError):
        ClipTokenizer(merges)  # invalid: merges come before their parts
    tokenizer = ClipTokenizer([merges[0], merges[1], merges[2], merges[3], merges[5], merges[4]])
    assert content(tokenizer, "low slow slower") == [513, byte("s"), 513, 517]


def test_what_does_not_fit_is_told(plain: ClipTokenizer) -> None:
    fits = plain.encode("x" * 75, PAD)
    assert (fits.ids[-1], fits.ignored) == (513, "")
    cut = plain.encode("Word " * 18 + "ABCDEF, and MORE", PAD)
    assert cut.ids.tolist() == [512, *spelled(*["word"] * 18), *spelled("abcdef")[:3], 513]
    assert cut.ignored == "def, and more"
    between = plain.encode("abc " * 25 + " the  rest", PAD)
    assert between.ignored == "the rest"


def test_a_character_cut_in_its_middle_is_ignored_whole(plain: ClipTokenizer) -> None:
    assert plain.encode("a" + "é" * 40, PAD).ignored == "é" * 3
    assert plain.encode("aa" + "é" * 40, PAD).ignored == "é" * 4  # 73 bytes are left: 36 and a half of them


def test_a_very_long_word_is_tokenised_as_far_as_it_counts() -> None:
    tokenizer = ClipTokenizer([("a", "b"), ("ab", "ab"), ("abab", "abab")])
    cut = tokenizer.encode("ab" * 50_000, PAD)
    assert cut.ids[1:76].tolist() == [514] * 75
    assert len(cut.ignored) == 100_000 - 75 * 8


def test_very_long_words_are_not_kept() -> None:
    tokenizer = ClipTokenizer([("a", "b")])
    for length in (64, 64, 65):
        assert content(tokenizer, "b" * length) == spelled("b" * length)
    assert tokenizer._tokens.cache_info().currsize == 1


def test_merges_are_read_from_a_checkpoints_file(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt"
    path.write_text("#version: 0.2\na b\nĠ Ġ\nab c</w>\n", encoding="utf-8")
    tokenizer = ClipTokenizer.load(path)
    assert content(tokenizer, "ab abc") == [byte("a"), byte("b", True), 514]
    assert tokenizer.end == 516

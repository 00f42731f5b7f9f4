"""The content filter against prompts in many spellings, and each of its rules alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from nexus_ensembles.errors import BadInput
from nexus_ensembles.prompts.content_filter import WORD_FILE, ContentFilter, Phrases

from benchmarks.content_filter import SETS, read, verdict

ON = ContentFilter.load("on")


@pytest.mark.parametrize(("expected", "prompt"), read(SETS["the set"]))
def test_prompts_of_the_set(expected: str, prompt: str) -> None:
    assert verdict(ON, prompt) == expected


def test_held_out_prompts() -> None:
    """Misses are known and of kinds that the filter does not claim to see; a harmless prompt is never rejected."""
    wrong = [
        (expected, prompt) for expected, prompt in read(SETS["held out"]) if verdict(ON, prompt) != expected
    ]
    assert wrong == [("nudity", "a nakedwoman"), ("violence", "mu rder"), ("profanity", "mothafucka")]


def test_the_sets_are_as_large_as_promised() -> None:
    for name, size in (("the set", 108), ("held out", 30)):
        verdicts = [expected == "harmless" for expected, _ in read(SETS[name])]
        assert (verdicts.count(True), verdicts.count(False)) == (size, size)


def test_the_message_names_the_category_and_not_the_word() -> None:
    with pytest.raises(BadInput) as raised:
        ON.check("two men k1lling a third")
    assert str(raised.value) == (
        "the prompt asks for violence, which this service does not paint; ask for something else."
    )


@pytest.mark.parametrize("prompt", ["", " ", "!!!", "4 8 15", "\u200b", "1", "@ $ !"])
def test_prompts_without_words_pass(prompt: str) -> None:
    ON.check(prompt)


def test_an_allowed_phrase_excuses_only_its_own_words() -> None:
    ON.check("a killer whale")
    assert verdict(ON, "a killer whale kills a seal") == "violence"
    assert verdict(ON, "a killer and a whale") == "violence"


def test_an_allowed_word_in_disguise_is_not_excused() -> None:
    ON.check("the mad hatter, the tittles of a scribe, a public bath")
    assert verdict(ON, "the mad hatttter") == "hate"
    assert verdict(ON, "titties") == "nudity"


@pytest.mark.parametrize(
    "prompt", ["(n)ude", "((n)ude)", "n[u]de", "a (nu)de woman", "(n)(u)(d)(e)", "{nud}e<>"]
)
def test_brackets_inside_a_word_hide_nothing(prompt: str) -> None:
    assert verdict(ON, prompt) == "nudity"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("n*de", "nudity"),
        ("f**k", "profanity"),
        ("**s*x**", "nudity"),
        ("(s*x:1.3)", "nudity"),
        ("a k*ller", "violence"),
        # sums, emphasis, footnotes, and stars at either end, which could stand for anything
        *(
            (text, "harmless")
            for text in ("2*3", "5*x", "x*y*z", "a *very* old oak", "f*", "*uck", "n*d*e", "s**")
        ),
    ],
)
def test_stars_hide_letters_one_by_one(prompt: str, expected: str) -> None:
    assert verdict(ON, prompt) == expected


def test_signs_that_stand_for_many_letters_count_as_those() -> None:
    ON.check("\ufdfa" * 50)  # 18 letters each
    with pytest.raises(BadInput) as raised:
        ON.check("\ufdfa" * 60)
    assert str(raised.value) == (
        "the prompt has more than 1024 letters once signs that stand for several are written out; shorten it."
    )
    ON.check("a" * 1024)


def test_off_rejects_nothing() -> None:
    ContentFilter.load("off").check("kill")


def test_a_word_file_replaces_ours(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(
        "# house rules\n[clowns]\nclown, clowns\nред нос, клоун\n[allowed]\nclown fish\n", "utf-8"
    )
    ours = ContentFilter.load(str(path))
    ours.check("kill the lights beside a clown fish")
    for prompt in ("cl0wns", "КЛОУН", "c l o w n", "a Ред  Нос"):
        assert verdict(ours, prompt) == "clowns"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "no readable text file"),
        (b"", "lists no word to reject"),
        (b"# nothing\n[violence]\n[allowed]\nkill bill\n", "lists no word to reject"),
        (b"kill\n", "must begin with a category"),
        (b"[violence]\n\xff\xfe\n", "no readable text file"),
    ],
)
def test_an_unusable_word_file_fails_at_load(tmp_path: Path, text: bytes | None, complaint: str) -> None:
    path = tmp_path / "words.txt"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ValueError, match=complaint):
        ContentFilter.load(str(path))


def test_every_entry_of_our_word_file_does_what_its_section_says() -> None:
    """Each rejected form is rejected alone, under its own category; each allowed one passes."""
    category = ""
    for line in WORD_FILE.read_text("utf-8").splitlines():
        if line.startswith("["):
            category = line.strip("[]")
        elif line and not line.startswith("#"):
            for entry in line.split(","):
                expected = "harmless" if category == "allowed" else category
                assert verdict(ON, entry.strip()) == expected, entry


def test_steps_grow_with_the_length_and_not_faster() -> None:
    """Look-ups in the trees of phrases: ten times the prompt takes ten times as many."""
    counted = ContentFilter.load("on")
    for phrases in (*counted._words, *counted._letters):
        count(phrases)
    for unit in ("killer whale ", "a ", "k i l l e ", "nu-de.", "\u200bn", "10 things i hate "):
        steps = []
        for length in (100, 1_000):
            Counted.steps = 0
            verdict(counted, (unit * length)[:length])
            steps.append(Counted.steps)
        assert steps[1] <= 10.5 * steps[0], unit  # the last unit of a prompt may be cut short


class Counted(dict[str, Phrases]):
    """A dictionary that counts its look-ups."""

    steps = 0

    def get(self, key: str, default: None = None) -> Phrases | None:  # type: ignore[override]
        Counted.steps += 1
        return super().get(key, default)


def count(phrases: Phrases) -> None:
    """Make every look-up in the tree count."""
    for node in phrases._next.values():
        count(node)
    phrases._next = Counted(phrases._next)

"""The serving side's tokenizer against transformers' CLIPTokenizer, on the published vocabulary."""

import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nexus_ensembles.prompts.clip_tokenizer import ClipTokenizer
from nexus_export.downloads.packages import CLIP_VOCABULARY, PinnedFile
from nexus_export.families.diffusion import clip_vocabulary
from transformers import CLIPTokenizer

END = 49407
PROMPTS = (
    "",
    " ",
    "\t\n ",
    "a photo of a cat",
    "A Red Fox in the SNOW, 35mm, f/1.8, bokeh!!!",
    "  leading,   inner \t and\u00a0trailing  white\u2003space \r\n",
    "don't, it's, we're, I've, I'm, you'll, he'd; 'tis the '90s, rock'n'roll, ''s, DON'T",
    "don’t — “typographic” quotes… and – dashes",
    "1234 56.78 3rd 4k 8K 2:1 ½ ² Ⅷ ٣ ४ 五",
    "masterpiece, (best quality:1.2), [[bad]], {x|y}, <lora:foo:0.8>, a_b_c, C++ #1 @home 100% 5$ 5€",
    "!!!...???---///\\\\***+++===~~~^^^```|||",
    "café naïve Ångström São Paulo Zürich Łódź İstanbul DİYARBAKIR straße GROẞ ﬁne ﬂow",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m e\u0301\u0302\u0323 \u0301alone",
    "ΟΔΥΣΣΕΥΣ και σοφός Σ",
    "красная лиса на снегу, Ёлка",
    "一只红色的狐狸在雪中奔跑。",
    "雪の中を走る赤いキツネ、カタカナ、ﾊﾝｶｸ",
    "눈 속을 달리는 붉은 여우",
    "\u1112\u1161\u11ab\u1100\u1173\u11af",  # Hangul in letters, which NFC composes
    "ثعلب أحمر في الثلج",
    "שועל אדום בשלג",
    "बर्फ में लाल लोमड़ी",
    "สุนัขจิ้งจอกแดงในหิมะ",
    "የበረዶ ቀበሮ",
    "🦊 in the ❄️ 👩‍🚀👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 1️⃣ ☕",
    "𝕱𝖗𝖆𝖐𝖙𝖚𝖗 𝒔𝒄𝒓𝒊𝒑𝒕 ｆｕｌｌｗｉｄｔｈ Ⓒⓘⓡⓒⓛⓔ",
    "zero\u200bwidth soft\u00adhyphen \u202eright-to-left\u202c \ufeffmark",
    "null\x00 bell\x07 file\x1cgroup\x1drecord\x1eunit\x1f next\x85line\u2028line\u2029paragraph",
    "Pneumonoultramicroscopicsilicovolcanoconiosis",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "zqxjkvbw" * 40,
    "word " * 74,
    "word " * 75,
    "word " * 76,
    "the quick brown fox jumps over the lazy dog " * 23,
    "日本語のプロンプト、とても長い。" * 30,
    "👩‍🚀" * 60,
)


@pytest.fixture(scope="module")
def folder(published: Callable[[PinnedFile], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder as checkpoints have it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    merges = clip_vocabulary.read_published(published(CLIP_VOCABULARY))
    (folder / "merges.txt").write_text(clip_vocabulary.merges_text(merges), encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary.vocabulary(merges)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ClipTokenizer:
    return ClipTokenizer.load(folder / "merges.txt")


def expected_ids(folder: Path, prompts: list[str], **options: Any) -> list[list[int]]:
    """The token ids that diffusers' pipelines hand to the text encoder."""
    reference = CLIPTokenizer.from_pretrained(folder, **options)
    encoded = reference(
        prompts, padding="max_length", max_length=77, truncation=True, split_special_tokens=True
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def assert_same(tokenizer: ClipTokenizer, folder: Path, prompts: list[str]) -> None:
    for prompt, expected in zip(prompts, expected_ids(folder, prompts)):
        ids = tokenizer.encode(prompt, END).ids
        assert ids.dtype == np.int32
        assert ids.tolist() == expected, repr(prompt)


def test_prompts_are_transformers_tokens(tokenizer: ClipTokenizer, folder: Path) -> None:
    assert_same(tokenizer, folder, list(PROMPTS))


def test_the_second_encoder_pads_with_an_exclamation_mark(tokenizer: ClipTokenizer, folder: Path) -> None:
    for prompt, expected in zip(PROMPTS, expected_ids(folder, list(PROMPTS), pad_token="!")):
        assert tokenizer.encode(prompt, 0).ids.tolist() == expected, repr(prompt)


def test_random_strings_are_transformers_tokens(tokenizer: ClipTokenizer, folder: Path) -> None:
    """500 of any characters, 500 of the likelier ones."""
    any_script = [
        chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")
    ]
    likely = [
        *map(chr, [*range(32, 127)] * 4),
        *map(chr, range(0xA0, 0x250)),
        *map(chr, range(0x2000, 0x2060)),
    ]
    likely += ["'s", "'LL", "don't", "Hello", "e\u0301", "\u1112\u1161", "🦊", " ", "\n"] * 8
    draw = random.Random(20)
    prompts = [
        "".join(draw.choices(pool, k=draw.randint(1, 50)))
        for pool in (any_script, likely)
        for _ in range(500)
    ]
    assert_same(tokenizer, folder, prompts)


def test_every_character_is_classed_as_by_transformers(tokenizer: ClipTokenizer, folder: Path) -> None:
    """Each assigned character between a letter and a sign, where its class decides the token that it joins."""
    alike = ("CJK UNIFIED", "CJK COMPAT", "HANGUL SYLLABLE", "TANGUT")  # 110,000 letters, of which one in 100
    codes = [
        code
        for code in range(0x30000)
        if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
        and (code % 100 == 0 or not unicodedata.name(chr(code), "").startswith(alike))
    ]
    prompts = [
        " ".join(f"a{chr(code)}!" for code in codes[first : first + 8]) for first in range(0, len(codes), 8)
    ]
    assert len(codes) > 30_000
    assert_same(tokenizer, folder, prompts)


def test_what_is_cut_is_what_transformers_cuts(tokenizer: ClipTokenizer, folder: Path) -> None:
    reference = CLIPTokenizer.from_pretrained(folder)
    for prompt in PROMPTS:
        ids = reference(prompt, split_special_tokens=True)["input_ids"]
        cut = reference.backend_tokenizer.decode(ids[76:-1])  # without the end
        # transformers' decoding puts spaces between words that had none, and writes half characters as U+FFFD
        if "\ufffd" not in cut:
            ignored = tokenizer.encode(prompt, END).ignored
            assert ignored.replace(" ", "") == cut.replace(" ", ""), repr(prompt)


def test_the_end_of_text_in_a_prompt_is_plain_text(tokenizer: ClipTokenizer, folder: Path) -> None:
    prompts = ["a cat <|endoftext|> a dog", "<|STARTOFTEXT|> <|startoftext|>", "a<|endoftext|>b"]
    assert_same(tokenizer, folder, prompts)
    ids = tokenizer.encode(prompts[0], 0).ids.tolist()
    assert ids.count(END) == 1

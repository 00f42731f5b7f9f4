"""Token ids of training captions."""

import numpy as np
import pytest
from nexus_ensembles.prompts.clip_tokenizer import ClipTokenizer
from nexus_training.sdxl.captions import UNCONDITIONAL, sample_spec
from nexus_training.sdxl.samples import SHEET_PROMPTS
from nexus_training.sdxl.tokenizer import Vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_reads_captions_as_the_pipeline_does(vocabulary: Vocabulary) -> None:
    rng = np.random.default_rng(0)
    captions = sorted({sample_spec(rng).caption for _ in range(500)} | {*UNCONDITIONAL, *SHEET_PROMPTS})
    serving = ClipTokenizer(tuple(merge.split(" ")) for merge in vocabulary.merges)  # type: ignore[misc]
    # The first tokenizer pads with the end token, the second with "!".
    for ids, pad in zip(vocabulary.encode(captions), (49407, 0), strict=True):
        assert all(np.array_equal(row, serving.encode(text, pad).ids) for row, text in zip(ids, captions))

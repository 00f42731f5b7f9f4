"""Prompts for generative fill's networks, as CLIP's tokenizer reads them."""

import numpy as np
from numpy.typing import NDArray

#: CLIP's tokens around a text, and how many a prompt has in all.
START, END, TOKENS = 49406, 49407, 77
#: What SDXL's second text encoder is filled up with; the first one, and SD 1.5's, with END.
SECOND_PADDING = 0

#: The text and its ids; the tokenizer is the pipelines', so the ids stand here.
PROMPTS: dict[str, list[int]] = {
    "a wooden bench in a park, autumn leaves": [320, 9057, 8771, 530, 320, 1452, 267, 6110, 5579],
    "a golden retriever sitting on the grass": [320, 3878, 28394, 4919, 525, 518, 5922],
    "a bowl of oranges on a white table": [320, 3814, 539, 32417, 525, 320, 1579, 2175],
    "an old brick wall covered with ivy": [550, 896, 9518, 2569, 5603, 593, 16045],
    "snow on the mountains, clear sky, sharp focus": [2583, 525, 518, 5873, 267, 3143, 2390, 267, 8157, 4353],
    "blurry, low quality": [21977, 267, 1042, 3027],
}


def token_ids(text: str, padding: int) -> NDArray[np.int32]:
    """INT32 [77]: start, the text of one of `PROMPTS`, end, filled up with `padding`."""
    ids = [START, *PROMPTS[text], END]
    return np.array(ids + [padding] * (TOKENS - len(ids)), np.int32)

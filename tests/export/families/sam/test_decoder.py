"""The rebuilt SAM decoder against the published one, and the results that batching and filling up must not change."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from nexus_export.downloads.packages import MOBILE_SAM_DECODER, PinnedFile
from nexus_export.families.sam import constants
from nexus_export.families.sam.published_onnx import decoder_weights
from nexus_export.onnx_graphs.template import weight_shapes
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Inputs = dict[str, Floats]

# Points in the 1024 frame and their labels, closed as SAM's predictor does: -1 where there is no box.
PROMPTS = {
    "one click": ([(512, 300), (0, 0)], [1, -1]),
    "two clicks": ([(512, 300), (300, 500), (0, 0)], [1, 1, -1]),
    "a negative click": ([(512, 300), (400, 400), (100, 100), (0, 0)], [1, 1, 0, -1]),
    "a box": ([(200, 150), (800, 600)], [2, 3]),
    "a click in a box": ([(512, 300), (200, 150), (800, 600)], [1, 2, 3]),
}


@pytest.fixture(scope="module")
def session(
    artifact: Callable[[str], Path], open_session: Callable[[Path], onnxruntime.InferenceSession]
) -> onnxruntime.InferenceSession:
    return open_session(artifact("sam_decoder"))


@pytest.fixture(scope="module")
def reference(
    published: Callable[[PinnedFile], Path], open_session: Callable[[Path], onnxruntime.InferenceSession]
) -> Callable[[Inputs], tuple[Floats, Floats]]:
    """The published decoder: its one mask, [256,256], and its score, [1]."""
    decoder = open_session(published(MOBILE_SAM_DECODER))

    def run(inputs: Inputs) -> tuple[Floats, Floats]:
        feeds = {
            "image_embeddings": inputs["embedding"],
            "point_coords": inputs["points"],
            "point_labels": inputs["labels"],
            "mask_input": inputs["mask_input"],
            "has_mask_input": inputs["has_mask"][0],
            "orig_im_size": np.array([1024, 1024], np.float32),
        }
        scores, masks = decoder.run(["iou_predictions", "low_res_masks"], feeds)
        return masks[0, 0], scores[0]

    return run


def _inputs(embedding: Floats, prompt: str, mask: Floats | None = None) -> Inputs:
    points, labels = PROMPTS[prompt]
    return {
        "embedding": embedding,
        "points": np.array([points], np.float32),
        "labels": np.array([labels], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32) if mask is None else mask[None, None],
        "has_mask": np.array([[mask is not None]], np.float32),
    }


def _filled_up(inputs: Inputs, points: int) -> Inputs:
    spare = points - inputs["labels"].shape[1]
    return {
        **inputs,
        "points": np.pad(inputs["points"], ((0, 0), (0, spare), (0, 0)), constant_values=321),
        "labels": np.pad(inputs["labels"], ((0, 0), (0, spare)), constant_values=-2),
    }


def _published_token(inputs: Inputs) -> slice:
    """The tokens among which the published export chooses: by the number of points, -1 included."""
    return slice(1, 4) if inputs["labels"].shape[1] < 3 else slice(0, 1)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_matches_the_published_decoder(
    session: onnxruntime.InferenceSession,
    reference: Callable[[Inputs], tuple[Floats, Floats]],
    embeddings: dict[str, Floats],
    name: str,
    prompt: str,
) -> None:
    first: Floats | None = None
    for _ in range(2):  # without a mask, then with the first answer as the mask
        inputs = _inputs(embeddings[name], prompt, first)
        masks, scores = session.run(None, inputs)
        expected, score = reference(inputs)
        choice = _published_token(inputs)
        token = choice.start + int(scores[0, choice].argmax())
        # Logits run to about 40 and a mask is cut at 0: FP32 rounding is all there may be between them.
        assert np.abs(masks[0, token] - expected).max() < 1e-3
        assert np.abs(scores[0, token] - score).max() < 1e-5
        first = expected


def test_weights_are_those_of_the_published_checkpoint(published: Callable[[PinnedFile], Path]) -> None:
    weights = decoder_weights(onnx.load(str(published(MOBILE_SAM_DECODER))))
    template = onnx.load(str(constants.DECODER_TEMPLATE))
    assert weight_shapes(template) == {name: array.shape for name, array in weights.items()}
    # Published keys of each kind that the ONNX export had renamed.
    assert weights["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape == (2048, 256)
    assert weights["mask_decoder.output_upscaling.1.bias"].shape == (64,)
    assert weights["mask_decoder.mask_tokens.weight"].shape == (4, 256)
    assert weights["prompt_encoder.mask_downscaling.4.weight"].shape == (16,)
    assert weights["prompt_encoder.no_mask_embed.weight"].shape == (1, 256)


@pytest.mark.parametrize("points", [4, 8, 16])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_filler_changes_nothing(
    session: onnxruntime.InferenceSession, embeddings: dict[str, Floats], prompt: str, points: int
) -> None:
    inputs = _inputs(embeddings["coffee"], prompt)
    masks, scores = session.run(None, inputs)
    filled_masks, filled_scores = session.run(None, _filled_up(inputs, points))
    # A hidden key's weight is exactly 0 and every row of a product is summed by itself: not a bit differs.
    assert np.array_equal(filled_masks, masks)
    assert np.array_equal(filled_scores, scores)


def test_not_a_point_is_no_filler(
    session: onnxruntime.InferenceSession, embeddings: dict[str, Floats]
) -> None:
    inputs = _inputs(embeddings["coffee"], "a click in a box")
    masks, _ = session.run(None, inputs)
    filled = _filled_up(inputs, 8)
    other_masks, _ = session.run(None, {**filled, "labels": np.maximum(filled["labels"], -1)})
    # The padding that SAM was trained with is a token like others: the test above has something to find.
    assert np.abs(other_masks - masks).max() > 0.1


def test_rows_of_a_batch_equal_their_twins(
    session: onnxruntime.InferenceSession, embeddings: dict[str, Floats]
) -> None:
    names, prompts = list(embeddings), list(PROMPTS)
    rows = [_filled_up(_inputs(embeddings[names[row % 3]], prompts[row % 5]), points=8) for row in range(8)]
    rows[6]["mask_input"] = np.full((1, 1, 256, 256), 3, np.float32)
    rows[6]["has_mask"] = np.ones((1, 1), np.float32)
    batch = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    masks, scores = session.run(None, batch)
    for row, inputs in enumerate(rows):
        alone_masks, alone_scores = session.run(None, inputs)
        # Products of another height may be summed in another order: FP32 rounding of logits up to about 40
        # (3e-5 measured), so a pixel of the mask could flip only where its logit is that close to 0.
        assert np.abs(masks[row] - alone_masks[0]).max() < 2e-4
        assert np.abs(scores[row] - alone_scores[0]).max() < 1e-5


def test_torch_code_agrees_with_the_graph(
    session: onnxruntime.InferenceSession,
    embeddings: dict[str, Floats],
    published: Callable[[PinnedFile], Path],
) -> None:
    torch = pytest.importorskip("torch", reason="needs nexus-export[torch]")
    from nexus_export.families.sam.modules import SamDecoder

    weights = decoder_weights(onnx.load(str(published(MOBILE_SAM_DECODER))))
    module = SamDecoder().eval()
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    inputs = _filled_up(_inputs(embeddings["chelsea"], "a negative click"), points=8)
    with torch.no_grad():
        masks, scores = module(*(torch.from_numpy(array) for array in inputs.values()))
    graph_masks, graph_scores = session.run(None, inputs)
    # Two libraries' FP32 rounding (1e-5 measured), on logits up to about 40.
    assert np.abs(masks.numpy() - graph_masks).max() < 2e-4
    assert np.abs(scores.numpy() - graph_scores).max() < 1e-5


def test_committed_template_is_what_torch_exports() -> None:
    pytest.importorskip("torch", reason="needs nexus-export[torch]")
    from nexus_export.families.sam.templates import export_sam_decoder

    assert export_sam_decoder() == onnx.load(str(constants.DECODER_TEMPLATE))

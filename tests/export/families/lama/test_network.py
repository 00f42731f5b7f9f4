"""The exported LaMa: its contract, and its parity with the torch.fft network."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nexus_export.families.lama.generator import Generator, GeneratorConfig
from nexus_export.families.lama.network import LamaNetwork, complete, export_template
from nexus_export.onnx_graphs.template import fill, weight_shapes
from numpy.typing import NDArray
from onnx import helper

SMALL = {"width": 8, "blocks": 2}
SIZES = [(64, 64), (40, 96), (128, 72), (256, 200), (72, 264)]  # the noise repeats after 96 pixels


def seeded_generator(config: GeneratorConfig) -> Generator:
    """Random weights with every norm's statistics different, so that a mix-up would show."""
    torch.manual_seed(0)
    generator = Generator(config)
    for module in generator.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            state = module.state_dict()  # shares memory with the module
            for name in ("weight", "running_var"):
                state[name].uniform_(0.5, 1.5)
            for name in ("bias", "running_mean"):
                state[name].normal_(0.0, 0.2)
    return generator.eval()


def example(height: int, width: int, batch: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng((height, width))
    image = rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    mask = np.zeros((batch, height, width, 1), np.uint8)
    mask[:, height // 4 : height // 2, width // 4 : width // 2] = 255
    mask[:, :, width // 3] = 1
    return image, mask


@pytest.fixture(scope="module", params=[True, False], ids=["pyramid", "published"])
def network(request: pytest.FixtureRequest) -> LamaNetwork:
    config = GeneratorConfig(**SMALL, output="residual" if request.param else "sigmoid")
    return LamaNetwork(seeded_generator(config), pyramid=request.param)


@pytest.fixture(scope="module")
def exported(network: LamaNetwork) -> onnxruntime.InferenceSession:
    """The export, with the picture before rounding as a second output."""
    template, state = export_template(network), network.state_dict()
    model = fill(template, {name: state[name].numpy() for name in weight_shapes(template)})
    (rounding,) = (node for node in model.graph.node if node.op_type == "Round")
    model.graph.output.append(helper.make_tensor_value_info(rounding.input[0], onnx.TensorProto.FLOAT, None))
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_parity_with_torch_fft(
    network: LamaNetwork, exported: onnxruntime.InferenceSession, height: int, width: int
) -> None:
    image, mask = example(height, width)
    _, scaled = exported.run(None, {"image": image, "mask": mask})
    assert not network.generator.matrix_dft
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255.0
    hole = torch.from_numpy(mask).permute(0, 3, 1, 2).float().clamp(max=1)
    with torch.no_grad():
        expected = complete(network.generator, pixels, hole, network.pyramid).clamp(0, 1).numpy()
    # The project's bound for this export; FP32 kernels of two libraries differ by about 1e-5 here.
    assert np.abs(scaled / 255.0 - expected).max() < 1e-3
    # A saturated or constant picture would hide errors.
    assert expected.std() > 0.02


def test_contract(exported: onnxruntime.InferenceSession) -> None:
    inputs, outputs = exported.get_inputs(), exported.get_outputs()
    assert [(i.name, i.type, i.shape) for i in inputs] == [
        ("image", "tensor(uint8)", ["batch", "height", "width", 3]),
        ("mask", "tensor(uint8)", ["batch", "height", "width", 1]),
    ]
    assert (outputs[0].name, outputs[0].type, outputs[0].shape) == (
        "filled", "tensor(uint8)", ["batch", "height", "width", 3],
    )  # fmt: skip


def test_known_pixels_are_byte_identical_and_the_hole_is_rounded(
    exported: onnxruntime.InferenceSession,
) -> None:
    image, mask = example(40, 96, batch=3)
    filled, scaled = exported.run(None, {"image": image, "mask": mask})
    known = mask[..., 0] == 0
    assert np.array_equal(filled[known], image[known])
    assert np.array_equal(filled[~known], np.rint(scaled.transpose(0, 2, 3, 1))[~known])


def test_every_nonzero_mask_value_is_a_hole(exported: onnxruntime.InferenceSession) -> None:
    image, mask = example(64, 64)
    filled = exported.run(["filled"], {"image": image, "mask": mask})[0]
    again = exported.run(["filled"], {"image": image, "mask": (mask > 0).astype(np.uint8)})[0]
    assert np.array_equal(filled, again)


def test_a_batch_equals_its_rows(exported: onnxruntime.InferenceSession) -> None:
    image, mask = example(64, 96, batch=2)
    mask[1] = 0
    mask[1, 10:30, 5:60] = 1
    together = exported.run(["filled"], {"image": image, "mask": mask})[0]
    for row in range(2):
        alone = exported.run(["filled"], {"image": image[row : row + 1], "mask": mask[row : row + 1]})[0]
        # Another batch size may pick another kernel, whose last digit can turn a rounding.
        assert np.abs(together[row].astype(int) - alone[0]).max() <= 1


@pytest.mark.parametrize("value", [0, 255])
def test_empty_and_full_masks(exported: onnxruntime.InferenceSession, value: int) -> None:
    image, _ = example(16, 24)
    filled, scaled = exported.run(None, {"image": image, "mask": np.full((1, 16, 24, 1), value, np.uint8)})
    assert np.isfinite(scaled).all()
    assert np.array_equal(filled, image) == (value == 0)


def test_export_leaves_the_network_as_it_was(network: LamaNetwork) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    export_template(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.generator.matrix_dft

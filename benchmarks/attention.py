"""What fused attention saves: each block as one node, and the same in plain operators, in onnxruntime on this CPU.

    .venv-export/bin/python -m benchmarks.attention

Weights are random: they change neither time nor memory. Each graph runs in a process of its own, once to warm up and
then three times; memory is how far the process's peak rises above what it holds once the network is loaded. Writes
results/attention.json and results/attention.md.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import torch
from nexus_export.families.sam.vit import Attention
from nexus_export.onnx_graphs.attention import decomposed
from nexus_export.onnx_graphs.template import fill
from nexus_export.onnx_graphs.torchscript import export_template
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.publish import machine, publish

RUNS = 3


class Block(nn.Module):
    """Attention as in diffusers: queries from the pixels, keys and values from the pixels or from a text."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(context, width), nn.Linear(context, width)

    def forward(self, pixels: Tensor, context: Tensor) -> Tensor:
        """Pixels [B,S,width] and context [B,L,...] to [B,S,width]."""
        q, k, v = (
            part.view(part.shape[0], -1, self.heads, part.shape[-1] // self.heads).transpose(1, 2)
            for part in (self.q(pixels), self.k(context), self.v(context))
        )
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _self(length: int, width: int, heads: int) -> tuple[nn.Module, dict[str, Tensor]]:
    return _cross(length, width, heads, length, width)


def _cross(
    length: int, width: int, heads: int, tokens: int, context: int
) -> tuple[nn.Module, dict[str, Tensor]]:
    inputs = {"pixels": torch.randn(1, length, width), "context": torch.randn(1, tokens, context)}
    return Block(width, heads, context), inputs


CASES: Mapping[str, Callable[[], tuple[nn.Module, dict[str, Tensor]]]] = {
    "SAM ViT-B, global block, 4096 tokens, 12 heads": lambda: (
        Attention(768, 12, 64),
        {"tokens": torch.randn(1, 64, 64, 768)},
    ),
    "SDXL UNet at 1024 px, 4096 pixels, 10 heads": lambda: _self(4096, 640, 10),
    "SDXL UNet at 1024 px, 1024 pixels, 20 heads": lambda: _self(1024, 1280, 20),
    "SDXL UNet at 1024 px, 4096 pixels to 77 tokens, 10 heads": lambda: _cross(4096, 640, 10, 77, 2048),
    "VAE at 768 px, 9216 pixels, 1 head of 512": lambda: _self(9216, 512, 1),
}


def export(case: str) -> tuple[onnx.ModelProto, dict[str, Tensor]]:
    """The fused graph with its weights, and inputs for it."""
    torch.manual_seed(0)
    module, inputs = CASES[case]()
    axes = {name: {0: "batch"} for name in (*inputs, "out")}
    template = export_template(module, inputs, ["out"], axes)
    return fill(template, {name: tensor.numpy() for name, tensor in module.state_dict().items()}), inputs


def run(graph: Path, inputs: Path) -> dict[str, float]:
    """Seconds a run and MiB above the loaded network, of a graph in this process."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    given = {value.name: np.load(inputs)[value.name] for value in session.get_inputs()}
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here: see proc(5)
    loaded = _peak_mib()
    seconds = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        session.run(None, given)
        seconds.append(time.perf_counter() - start)
    return {"seconds": median(seconds[1:]), "peak_mib": _peak_mib() - loaded}


def _peak_mib() -> float:
    """This process's peak of resident memory. (getrusage's may be the parent's: it outlives exec.)"""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def measure(case: str) -> dict[str, float]:
    """The figures of a case, fused and plain, from processes of their own."""
    model, inputs = export(case)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "inputs.npz", allow_pickle=False, **{k: v.numpy() for k, v in inputs.items()})
        for kind, graph in (("fused", model), ("plain", decomposed(model))):
            onnx.save(graph, str(folder / f"{kind}.onnx"))
            command = [sys.executable, "-m", "benchmarks.attention", str(folder / f"{kind}.onnx")]
            done = subprocess.run(
                [*command, str(folder / "inputs.npz")], capture_output=True, check=True, text=True
            )
            figures |= {f"{kind}_{figure}": value for figure, value in json.loads(done.stdout).items()}
    return figures


def page(results: Mapping[str, Mapping[str, float]]) -> str:
    """The results as a table."""
    lines = [
        "# Fused attention",
        "",
        "One attention layer as one node (`com.microsoft.MultiHeadAttention`) and in plain operators (matrix product, "
        f"softmax, matrix product), FP32, batch 1, onnxruntime {onnxruntime.__version__} on {machine()}; random "
        f"weights; median of {RUNS} runs. Memory is the peak above the loaded network. Other work on the machine may "
        "raise both times of a row; the ratio is the figure. What is saved is memory; time is where it was, "
        "and where a head is as wide as the VAE's, more.",
        "",
        "| attention | fused s | plain s | time ratio | fused MiB | plain MiB | memory ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, row in results.items():
        ratios = [row[f"fused_{figure}"] / row[f"plain_{figure}"] for figure in ("seconds", "peak_mib")]
        lines.append(
            f"| {case} | {row['fused_seconds']:.2f} | {row['plain_seconds']:.2f} | {ratios[0]:.2f} "
            f"| {row['fused_peak_mib']:.0f} | {row['plain_peak_mib']:.0f} | {ratios[1]:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]))))
        return
    results = {case: measure(case) for case in CASES}
    publish("attention", results, page(results))


if __name__ == "__main__":
    main()

"""LaMa: the generator, its published and compact weights, and the network around it."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from safetensors.numpy import load_file

from nexus_export.downloads.checkpoints import Archive, PublishedCheckpoint, PublishedFile, single_file
from nexus_export.exported import ExportedNetwork, InferenceFn
from nexus_export.families.group import Group
from nexus_export.families.recipe import Parts, Recipe
from nexus_export.inference import torch_run
from nexus_export.networks import NETWORKS
from nexus_export.onnx_graphs import template
from nexus_export.paths import LAMA_TEMPLATE, LAMA_WEIGHTS

_PUBLISHED = (
    single_file(
        "big-lama",
        "lama",
        "https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
        "344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
        205_669_692,
        "as IOPaint has it, TorchScript",
    ),
    PublishedCheckpoint(
        "big-lama-lightning",
        "lama",
        (
            PublishedFile(
                "best.ckpt",
                "https://huggingface.co/smartywu/big-lama/resolve/"
                "05cb2be7f8dbe6ca7c6e78f4fc827a4b2baaa4a9/big-lama.zip",
                "fccb7adffd53ec0974ee5503c3731c2c2f1e7e07856fd9228cdcc0b46fd5d423",
                410_046_389,
                Archive(
                    "big-lama/models/best.ckpt",
                    "f1b358ca24093b93a106183b98a3dea6e8ed09f3b43ea7251eb2c81e7b4575f6",
                    381_428_720,
                ),
            ),
        ),
        "Apache-2.0",
        "as LaMa's README has it",
    ),
)


def _exports(path: Path) -> Iterator[ExportedNetwork]:
    from nexus_export.families.lama.checkpoint import exports

    return exports(path)


def _make(weights: Path) -> Parts:
    return onnx.load(str(LAMA_TEMPLATE)), load_file(weights)


def _reference(weights: Path) -> InferenceFn:
    from nexus_export.families.lama.checkpoint import read_compact
    from nexus_export.families.lama.network import LamaNetwork

    return torch_run(LamaNetwork(read_compact(weights), pyramid=True), NETWORKS["lama"])


_RECIPES = (Recipe("lama", LAMA_WEIGHTS, _make, _reference, (template,), LAMA_TEMPLATE),)

GROUPS = (Group("lama", _exports, _PUBLISHED, _RECIPES),)

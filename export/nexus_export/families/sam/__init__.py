"""Segment Anything: the image encoder and the decoder as networks."""

from collections.abc import Iterator
from pathlib import Path

from nexus_export.downloads.checkpoints import single_file
from nexus_export.exported import ExportedNetwork
from nexus_export.families.group import Group
from nexus_export.families.sam.default import RECIPES

_META = "https://dl.fbaipublicfiles.com"

_PUBLISHED = (
    single_file(
        "mobile_sam",
        "sam",
        "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
        "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        40_728_226,
        "MobileSAM: a TinyViT encodes",
    ),
    single_file(
        "sam_vit_b",
        "sam",
        f"{_META}/segment_anything/sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
        "SAM, the smallest encoder",
    ),
    single_file(
        "sam_vit_l",
        "sam",
        f"{_META}/segment_anything/sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
        "SAM, the middle one",
    ),
    single_file(
        "sam_vit_h",
        "sam",
        f"{_META}/segment_anything/sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
        "SAM, the largest",
    ),
)


def _exports(path: Path) -> Iterator[ExportedNetwork]:
    from nexus_export.families.sam.checkpoint import exports

    return exports(path)


GROUPS = (Group("sam", _exports, _PUBLISHED, RECIPES),)

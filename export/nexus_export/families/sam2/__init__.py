"""SAM 2.1 on still images: the image encoder and the decoder as networks."""

from collections.abc import Iterator
from pathlib import Path

from nexus_export.downloads.checkpoints import single_file
from nexus_export.exported import ExportedNetwork
from nexus_export.families.group import Group

_META = "https://dl.fbaipublicfiles.com"

_PUBLISHED = (
    single_file(
        "sam2.1_hiera_tiny",
        "sam2",
        f"{_META}/segment_anything_2/092824/sam2.1_hiera_tiny.pt",
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        156_008_466,
        "SAM 2.1, the smallest encoder",
    ),
    single_file(
        "sam2.1_hiera_small",
        "sam2",
        f"{_META}/segment_anything_2/092824/sam2.1_hiera_small.pt",
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        184_416_285,
        "SAM 2.1, the second",
    ),
    single_file(
        "sam2.1_hiera_base_plus",
        "sam2",
        f"{_META}/segment_anything_2/092824/sam2.1_hiera_base_plus.pt",
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        323_606_802,
        "SAM 2.1, the third",
    ),
    single_file(
        "sam2.1_hiera_large",
        "sam2",
        f"{_META}/segment_anything_2/092824/sam2.1_hiera_large.pt",
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        898_083_611,
        "SAM 2.1, the largest",
    ),
)


def _exports(path: Path) -> Iterator[ExportedNetwork]:
    from nexus_export.families.sam2.checkpoint import exports

    return exports(path)


GROUPS = (Group("sam2", _exports, _PUBLISHED),)

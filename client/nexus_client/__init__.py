"""Client of Nexus Canvas: segment, clean up, remove objects and backgrounds, paint from a prompt, over gRPC.

Usage:

    from nexus_client import Client

    with Client("localhost:8001") as client:
        client.remove_background("portrait.jpg", background="transparent").save("cutout.png")
"""

from ._arguments import Box, Labels, Points
from ._async_client import AsyncClient
from ._client import Client
from ._deprecated import AsyncPhoto, Photo
from ._images import EncodedImage, ImageInput, MaskInput
from ._operations import PIPELINES, FillSettings
from ._results import FillProgress, GenerativeFill, Segmentation, SmartRemoval, Status
from ._retry import RetryPolicy
from ._tensors import Tensors
from ._transport import AsyncTransport, Transport
from .exceptions import (
    Cancelled,
    DeadlineExceeded,
    ImageNotHeld,
    InputNotFound,
    InvalidInput,
    NexusError,
    NotDeployed,
    OutOfMemory,
    ServerError,
    Unavailable,
)

__version__ = "0.3.0"

__all__ = [
    "PIPELINES",
    "AsyncClient",
    "AsyncPhoto",
    "AsyncTransport",
    "Box",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "EncodedImage",
    "FillProgress",
    "FillSettings",
    "GenerativeFill",
    "ImageInput",
    "ImageNotHeld",
    "InputNotFound",
    "InvalidInput",
    "Labels",
    "MaskInput",
    "NexusError",
    "NotDeployed",
    "OutOfMemory",
    "Photo",
    "Points",
    "RetryPolicy",
    "Segmentation",
    "ServerError",
    "SmartRemoval",
    "Status",
    "Tensors",
    "Transport",
    "Unavailable",
    "__version__",
]

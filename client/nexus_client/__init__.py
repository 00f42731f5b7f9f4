"""Client of Nexus Canvas: segment, clean up, remove objects and backgrounds, over gRPC.

Usage:

    from nexus_client import Client

    with Client("localhost:8001") as client:
        client.remove_background("portrait.jpg", background="transparent").save("cutout.png")
"""

from ._async_client import AsyncClient, AsyncPhoto
from ._client import Client, Photo
from ._images import ImageInput, MaskInput
from ._requests import PIPELINES, Box, Labels, Points, Tensors
from ._results import Segmentation, SmartRemoval, Status
from ._retry import RetryPolicy
from ._transport import AsyncTransport, Transport
from .exceptions import (
    Cancelled,
    DeadlineExceeded,
    InputNotFound,
    InvalidInput,
    NexusError,
    NotDeployed,
    ServerError,
    Unavailable,
)

__version__ = "0.1.0"

__all__ = [
    "PIPELINES",
    "AsyncClient",
    "AsyncPhoto",
    "AsyncTransport",
    "Box",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "ImageInput",
    "InputNotFound",
    "InvalidInput",
    "Labels",
    "MaskInput",
    "NexusError",
    "NotDeployed",
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

"""The old form `photo.segment(...)` of `client.segment(photo, ...)`, kept for the one release after 0.3.

To remove it, delete this module, drop its names from `__init__`, and let both clients' `open` return `EncodedImage`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from ._images import EncodedImage

# The operations of 0.3; a newer one has no old form.
METHODS = (
    *("segment", "cleanup", "smart_remove", "remove_background"),
    *("generative_fill", "generative_fill_stream"),
)


class Photo(EncodedImage):
    """The `EncodedImage` that `open` returns. Its methods are deprecated: pass it to the client's instead."""

    def __init__(self, client: Any, encoded: bytes) -> None:
        super().__init__(encoded)
        object.__setattr__(self, "_client", client)  # the image is frozen

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in METHODS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warnings.warn(
            f"photo.{name}(...) is deprecated: use client.{name}(photo, ...)",
            DeprecationWarning,
            stacklevel=2,
        )
        return partial(getattr(self._client, name), self)


AsyncPhoto = Photo

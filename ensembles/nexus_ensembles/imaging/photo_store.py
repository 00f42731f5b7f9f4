"""What a pipeline keeps of the photos that it has seen, and images by reference: `sha256:` and a digest in hex.

A store belongs to one pipeline's process and one event loop. It holds its entries under the digest of an image's
encoded bytes, which it computes itself, so that no caller can put one image in the place of another.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from nexus_ensembles.errors import BadInput, ImageNotHeld
from nexus_ensembles.imaging.decode import MAX_BYTES, Photo, decode_photo

# The config's parameter that gives a pipeline a store, and its bound in bytes.
PARAMETER = "photo_store_bytes"
# An image's own encoded bytes, for those that send a reference in their place.
FILE = "file"
_PREFIX = b"sha256:"
_DIGEST = re.compile(rb"[0-9a-f]{64}")


class PhotoStore:
    """The store: within `max_bytes`, the entries used least recently go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._entries: OrderedDict[tuple[str, str], tuple[Any, int]] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """The size of all that is held, at most `max_bytes`."""
        return self._held_bytes

    def get(self, digest: str, kind: str) -> Any:
        """Return what is held of an image, or None; it is now the entry used last."""
        entry = self._entries.get((digest, kind))
        if entry is None:
            return None
        self._entries.move_to_end((digest, kind))
        return entry[0]

    def keep(self, digest: str, kind: str, value: Any, size: int) -> None:
        """Hold a value of `size` bytes, unless it is larger than the whole store."""
        if size > self._max_bytes:
            return
        self._held_bytes -= self._entries.pop((digest, kind), (None, 0))[1]
        self._entries[digest, kind] = value, size
        self._held_bytes += size
        while self._held_bytes > self._max_bytes:
            self._held_bytes -= self._entries.popitem(last=False)[1][1]


class SentImage:
    """The image of one request, sent as bytes or by reference, and what `store` holds of it.

    Without a store every image must be sent as bytes, and nothing is kept.
    """

    def __init__(self, data: bytes | None, digest: str, store: PhotoStore | None) -> None:
        self._data = data
        self._digest = digest
        self._store = store

    @classmethod
    async def find(cls, sent: bytes, store: PhotoStore | None) -> SentImage:
        """Raises BadInput for what begins as a reference and is none."""
        if store is None or len(sent) > MAX_BYTES:  # which decoding refuses
            return cls(sent, "", None)
        if not sent.startswith(_PREFIX):
            digest = await asyncio.to_thread(lambda: hashlib.sha256(sent).hexdigest())
            return cls(sent, digest, store)
        if len(sent) != len(_PREFIX) + 64 or not _DIGEST.fullmatch(sent, len(_PREFIX)):
            raise BadInput("the image is not a reference: give sha256: and 64 lower-case hexadecimal digits.")
        return cls(None, sent[len(_PREFIX) :].decode(), store)

    def get(self, kind: str) -> Any:
        """Return what is held of it under `kind`, or None."""
        return self._store.get(self._digest, kind) if self._store else None

    def keep(self, kind: str, value: Any, size: int) -> None:
        """Hold a value of `size` bytes under `kind`."""
        if self._store:
            self._store.keep(self._digest, kind, value, size)

    @property
    def data(self) -> bytes:
        """Its encoded bytes. Raises ImageNotHeld for a reference whose bytes are not held."""
        data: bytes | None = self.get(FILE) if self._data is None else self._data
        if data is None:
            raise ImageNotHeld(f"image sha256:{self._digest} is not held here; send its bytes.")
        return data

    async def decode(self) -> Photo:
        """Decode it, and keep its bytes for references to come. Raises BadInput and ImageNotHeld."""
        data = self.data
        photo = await asyncio.to_thread(decode_photo, data)
        self.keep(FILE, data, len(data))
        return photo


def from_parameters(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The argument `store` of a pipeline whose config has the parameter PARAMETER; nothing for any other."""
    if PARAMETER not in parameters:
        return {}
    return {"store": PhotoStore(int(parameters[PARAMETER]))}

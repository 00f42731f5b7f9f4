"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from PIL import Image

from . import _requests
from ._caller import DEFAULT_RETRIES, DEFAULT_TIMEOUT, Caller
from ._grpc import GrpcTransport
from ._images import ImageInput, MaskInput, encode_image
from ._requests import Box, Labels, Points
from ._results import Segmentation, SmartRemoval, Status
from ._retry import RetryPolicy
from ._runtime import Blocking, BlockingRuntime, finish
from ._transport import Transport

T = TypeVar("T")


class Client:
    """Calls a Nexus Canvas server.

    Usage:

        with Client("localhost:8001") as client:
            removal = client.smart_remove("street.jpg", points=[(412, 260)])
            removal.image.save("empty-street.png")

    `url`: HOST:PORT of the server's gRPC port. `timeout`: the budget of a call in seconds, its retries
    included; each method takes its own. `retries`: how to wait between tries while the server is unavailable;
    None tries once. `transport`: what carries the calls, gRPC unless given (a test passes its own).

    Images are paths, encoded bytes (PNG, JPEG, WebP), uint8 arrays [H, W], [H, W, 3] or [H, W, 4], or PIL
    images. Paths and bytes are sent as they are, and the server turns them upright by their EXIF orientation;
    arrays and PIL images are sent losslessly, as their pixels stand. Masks are the same, white inside, or
    bool arrays, True inside. Coordinates are pixels of the upright image, from its top left corner.

    Every method raises `NexusError` and nothing else; see `nexus_client.exceptions`. A client may be shared
    by threads.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retries: RetryPolicy | None = DEFAULT_RETRIES,
        transport: Transport | None = None,
    ) -> None:
        wire = Blocking(transport or GrpcTransport(url))
        self._caller = Caller(url, wire, BlockingRuntime(), timeout, retries)

    def segment(
        self,
        image: ImageInput,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        *,
        min_area: int | None = None,
        timeout: float | None = None,
    ) -> Segmentation:
        """Find the object under the clicks, or in the box.

        Usage: `client.segment("cat.jpg", points=[(120, 80)]).mask`

        `points`: clicks (x, y). `labels`: one per point, 1 inside the object and 0 outside it; all 1 unless
        given. `box`: x0, y0, x1, y1 around the object. `min_area`: drop specks and holes of fewer pixels than
        this (of the image scaled to 1024 on its long side); 0 keeps everything; the server's own figure
        unless given.
        """
        return self._run(lambda: _requests.segment(image, points, labels, box, min_area), timeout)

    def cleanup(
        self, image: ImageInput, mask: MaskInput, *, dilate: int = 3, timeout: float | None = None
    ) -> Image.Image:
        """Fill the mask from its surroundings; return the image, RGBA where it is not opaque, else RGB.

        Usage: `client.cleanup("wall.jpg", "graffiti-mask.png").save("clean.png")`

        `mask`: of the image's size. `dilate`: the mask is first grown by an elliptical kernel of this many
        pixels; 0 leaves it. Pixels outside the grown mask come back as they were.
        """
        return self._run(lambda: _requests.cleanup(image, mask, dilate), timeout)

    def smart_remove(
        self,
        image: ImageInput,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        rough_mask: MaskInput | None = None,
        *,
        dilate: int = 3,
        timeout: float | None = None,
    ) -> SmartRemoval:
        """Find an object and fill its place, in one call: `segment`, then `cleanup`.

        Usage: `client.smart_remove("beach.jpg", box=(40, 60, 210, 400)).image`

        `rough_mask`: painted over the object, in place of clicks or a box. The rest as in `segment` and
        `cleanup`.
        """
        return self._run(
            lambda: _requests.smart_remove(image, points, labels, box, rough_mask, dilate), timeout
        )

    def remove_background(
        self, image: ImageInput, *, background: str = "white", timeout: float | None = None
    ) -> Image.Image:
        """Keep the subject; return RGBA when `background` is "transparent", else RGB on that colour.

        Usage: `client.remove_background("portrait.jpg", background="transparent")`

        `background`: "transparent", a CSS colour name, or #rrggbb.
        """
        return self._run(lambda: _requests.remove_background(image, background), timeout)

    def open(self, image: ImageInput) -> Photo:
        """Read or encode an image once, for several calls on it. Makes no call itself.

        Usage: `photo = client.open("cat.jpg")`
        """
        return Photo(self, encode_image(image))

    def status(self, *, timeout: float | None = None) -> Status:
        """Ask what the server is ready for. Does not retry, and returns rather than raises when nothing
        answers.

        Usage: `client.status(timeout=2).ready`
        """
        return finish(self._caller.status(timeout))

    def close(self) -> None:
        """Drop the connection. Calls still in flight end with `Cancelled`."""
        finish(self._caller.transport.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, build: Callable[[], _requests.Request[T]], timeout: float | None) -> T:
        return finish(self._caller.call(build, timeout))


class Photo:
    """One image, read or encoded once, for several calls.

    Usage:

        photo = client.open("cat.jpg")
        photo.segment(points=[(120, 80)])
        photo.segment(points=[(120, 80), (300, 90)], labels=[1, 0])

    The server keeps what it computed of an image under the image's content, so the second click costs a
    fraction of the first. The methods are those of `Client` without the image.
    """

    def __init__(self, client: Client, encoded: bytes) -> None:
        self._client = client
        self.encoded = encoded

    def segment(
        self,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        *,
        min_area: int | None = None,
        timeout: float | None = None,
    ) -> Segmentation:
        """See `Client.segment`."""
        return self._client.segment(self.encoded, points, labels, box, min_area=min_area, timeout=timeout)

    def cleanup(self, mask: MaskInput, *, dilate: int = 3, timeout: float | None = None) -> Image.Image:
        """See `Client.cleanup`."""
        return self._client.cleanup(self.encoded, mask, dilate=dilate, timeout=timeout)

    def smart_remove(
        self,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        rough_mask: MaskInput | None = None,
        *,
        dilate: int = 3,
        timeout: float | None = None,
    ) -> SmartRemoval:
        """See `Client.smart_remove`."""
        return self._client.smart_remove(
            self.encoded, points, labels, box, rough_mask, dilate=dilate, timeout=timeout
        )

    def remove_background(self, *, background: str = "white", timeout: float | None = None) -> Image.Image:
        """See `Client.remove_background`."""
        return self._client.remove_background(self.encoded, background=background, timeout=timeout)

"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from . import _operations
from ._arguments import Box, Labels, Points
from ._blocking import TransportAdapter, drain, finish
from ._caller import DEFAULT_FILL_TIMEOUT, DEFAULT_RETRIES, DEFAULT_TIMEOUT, Caller
from ._deprecated import Photo
from ._grpc import GrpcTransport
from ._images import ImageInput, MaskInput, encode_image
from ._operations import FillSettings, Request, takes_fill_settings
from ._results import FillProgress, GenerativeFill, Segmentation, SmartRemoval, Status
from ._retry import RetryPolicy
from ._runtime import BlockingRuntime
from ._transport import Transport

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on

T = TypeVar("T")


class Client:
    """Calls a Nexus Canvas server.

    Usage:

        with Client("localhost:8001") as client:
            removal = client.smart_remove("street.jpg", points=[(412, 260)])
            removal.image.save("empty-street.png")

    `url`: HOST:PORT of the server's gRPC port. `timeout`: the budget of a call in seconds, its retries included,
    unless the method is given its own; by default 60 s, and 300 s for a generative fill. `retries`: how to wait
    between tries while the server is unavailable; None tries once. `transport`: carries the calls, by default over
    gRPC (a test passes its own).

    Images are paths, encoded bytes (PNG, JPEG, WebP), uint8 arrays [H, W], [H, W, 3] or [H, W, 4], PIL images, or
    what `open` returned. Paths and bytes are sent as they are, and the server turns them upright by their EXIF
    orientation; arrays and PIL images are sent losslessly, as their pixels stand. Masks are the same, white inside,
    or bool arrays, True inside. Coordinates are pixels of the upright image, from its top left corner.

    Every method raises `NexusError` and nothing else; see `nexus_client.exceptions`. Threads may share a client.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        timeout: float | None = None,
        retries: RetryPolicy | None = DEFAULT_RETRIES,
        transport: Transport | None = None,
    ) -> None:
        adapter = TransportAdapter(transport or GrpcTransport(url))
        self._caller = Caller(url, adapter, BlockingRuntime(), timeout, retries)

    def segment(
        self,
        image: ImageInput,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        *,
        min_area: int | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> Segmentation:
        """Find the object under the clicks, or in the box.

        Usage: `client.segment("cat.jpg", points=[(120, 80)]).mask`

        `points`: clicks (x, y). `labels`: one per point, 1 inside the object and 0 outside it; by default all 1.
        `box`: x0, y0, x1, y1 around the object. `min_area`: drop specks and holes of fewer pixels than this (of the
        image scaled to 1024 on its long side); 0 keeps everything; None is the server's default. `model`: "sam", the
        server's default, or "sam2" on a server that has it.
        """
        return self._run(lambda: _operations.segment(image, points, labels, box, min_area, model), timeout)

    def cleanup(
        self, image: ImageInput, mask: MaskInput, *, dilate: int = 3, timeout: float | None = None
    ) -> Image.Image:
        """Fill the mask from its surroundings; return the image, RGBA if it is not opaque, else RGB.

        Usage: `client.cleanup("wall.jpg", "graffiti-mask.png").save("clean.png")`

        `mask`: of the image's size. `dilate`: first grow the mask by an elliptical kernel of this many pixels; 0
        leaves it as it is. Pixels outside the grown mask do not change.
        """
        return self._run(lambda: _operations.cleanup(image, mask, dilate), timeout)

    def smart_remove(
        self,
        image: ImageInput,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        rough_mask: MaskInput | None = None,
        *,
        dilate: int = 3,
        model: str | None = None,
        timeout: float | None = None,
    ) -> SmartRemoval:
        """Find an object and fill its place, in one call: `segment`, then `cleanup`.

        Usage: `client.smart_remove("beach.jpg", box=(40, 60, 210, 400)).image`

        `rough_mask`: painted over the object, in place of clicks or a box. `model`: "sam" or "sam2", which finds the
        object. The others as in `segment` and `cleanup`.
        """
        return self._run(
            lambda: _operations.smart_remove(image, points, labels, box, rough_mask, dilate, model), timeout
        )

    def remove_background(
        self,
        image: ImageInput,
        *,
        background: str = "white",
        model: str | None = None,
        timeout: float | None = None,
    ) -> Image.Image:
        """Keep the subject; return RGBA when `background` is "transparent", else RGB on that colour.

        Usage: `client.remove_background("portrait.jpg", background="transparent")`

        `background`: "transparent", a CSS colour name, or #rrggbb. `model`: "u2net", the server's default, or "isnet"
        for finer outlines on a server that has it.
        """
        return self._run(lambda: _operations.remove_background(image, background, model), timeout)

    @takes_fill_settings
    def generative_fill(
        self,
        image: ImageInput,
        mask: MaskInput,
        prompt: str,
        *,
        timeout: float | None = None,
        **settings: Unpack[FillSettings],
    ) -> GenerativeFill:
        """Repaint the mask from a prompt.

        Usage: `client.generative_fill("lawn.jpg", "mask.png", "a wooden bench").image`

        `mask`: of the image's size; pixels outside it do not change. `negative_prompt`: things to avoid. `steps`: of
        denoising. `guidance_scale`: how closely to follow the prompt; 1 turns guidance off and costs half.
        `strength`: how much of the old content to give up, above 0 up to 1; only that share of the steps is taken.
        `seed`: the same seed and settings give the same picture. `scheduler`: "euler", "euler_karras",
        "euler_ancestral", "euler_ancestral_karras", "dpmpp_2m", "dpmpp_2m_karras", "ddim" or "lcm". A setting that is
        absent or None follows the server's default.

        If the server goes away during the fill, the call waits for it and starts the fill again from its first step,
        within `timeout`. Raises `OutOfMemory` if no tier of the server has device memory for the call.
        """
        return self._run(
            lambda: _operations.fill(image, mask, prompt, settings), timeout, DEFAULT_FILL_TIMEOUT
        )

    @takes_fill_settings
    def generative_fill_stream(
        self,
        image: ImageInput,
        mask: MaskInput,
        prompt: str,
        *,
        preview_every: int = 0,
        timeout: float | None = None,
        **settings: Unpack[FillSettings],
    ) -> Generator[FillProgress | GenerativeFill, None, None]:
        """As `generative_fill`, but yield a `FillProgress` after each step, and last the `GenerativeFill`.

        Usage:

            for event in client.generative_fill_stream("lawn.jpg", "mask.png", "a bench", preview_every=5):
                if isinstance(event, GenerativeFill):
                    event.image.save("bench.png")

        `preview_every`: steps from one preview to the next; 0 for none. Leaving the loop early, by break, `close()`
        or an exception, cancels the fill on the server. Nothing is sent before the first iteration, and nothing is
        retried after the first step: a stream that breaks off later raises `Unavailable`.
        """
        return drain(
            self._caller.stream(
                lambda: _operations.fill_stream(image, mask, prompt, preview_every, settings),
                timeout,
                DEFAULT_FILL_TIMEOUT,
            )
        )

    def open(self, image: ImageInput) -> Photo:
        """Read or encode an image once, for several calls on it; see `EncodedImage`. Sends nothing.

        Usage: `photo = client.open("cat.jpg")`, then `client.segment(photo, points=[(120, 80)])`
        """
        return Photo(self, encode_image(image))

    def status(self, *, timeout: float | None = None) -> Status:
        """Ask the server what it is ready for. Does not retry, and returns rather than raises if nothing answers.

        Usage: `client.status(timeout=2).ready`
        """
        return finish(self._caller.status(timeout))

    def close(self) -> None:
        """Drop the connection. Calls still in flight end with `Cancelled`."""
        finish(self._caller.transport.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(
        self, build: Callable[[], Request[T]], timeout: float | None, default: float = DEFAULT_TIMEOUT
    ) -> T:
        # A function rather than a request: building one reads files and writes PNG, which the caller does
        # within the call's budget.
        return finish(self._caller.call(build, timeout, default))

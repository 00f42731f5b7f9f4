"""The public interface: exported names, the two clients as twins, an image opened once, closing."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
from pathlib import Path
from typing import Any

import nexus_client
import numpy as np
import pytest
from nexus_client import (
    PIPELINES,
    AsyncClient,
    AsyncTransport,
    Client,
    EncodedImage,
    FillSettings,
    RetryPolicy,
    Status,
    Transport,
    Unavailable,
)

from tests.client.support.fakes import AsyncMockTransport, MockTransport

IMAGE = np.zeros((30, 40, 3), np.uint8)


def test_the_exported_names() -> None:
    assert nexus_client.__all__ == [
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
    assert all(hasattr(nexus_client, name) for name in nexus_client.__all__)


def test_the_version_is_the_distribution_s() -> None:
    assert importlib.metadata.version("nexus-client") == nexus_client.__version__


def test_the_package_is_typed() -> None:
    assert (Path(nexus_client.__file__).parent / "py.typed").exists()


def public_methods(kind: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"}


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(("kind", "twin"), [(Client, AsyncClient), (Transport, AsyncTransport)])
def test_the_twins_have_the_same_methods_and_signatures(kind: type, twin: type) -> None:
    ours, theirs = public_methods(kind), public_methods(twin)
    assert list(ours) == list(theirs)
    for name, method in ours.items():
        assert shape(method) == shape(theirs[name]), name
        ours_returns, theirs_returns = (
            inspect.signature(m).return_annotation for m in (method, theirs[name])
        )
        if ours_returns.startswith("Generator["):
            # An asynchronous generator has no return type; a Generator has one, None here.
            assert theirs_returns == f"Async{ours_returns.removesuffix(', None]')}]", name
        else:
            assert inspect.iscoroutinefunction(theirs[name]), name
            assert theirs_returns == ours_returns, name


def test_the_constructors_agree() -> None:
    assert shape(Client) == shape(AsyncClient)


def test_every_operation_is_a_method() -> None:
    assert set(PIPELINES) <= set(public_methods(Client))


@pytest.mark.parametrize("name", ["generative_fill", "generative_fill_stream"])
def test_a_signature_lists_the_fill_settings(name: str) -> None:
    parameters = inspect.signature(getattr(Client, name)).parameters
    settings = [p for p in parameters.values() if p.name in FillSettings.__annotations__]
    assert [p.name for p in settings] == list(FillSettings.__annotations__)
    assert all(p.kind is p.KEYWORD_ONLY and p.default is None for p in settings)
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert parameters["steps"].annotation == int | None


def test_every_public_method_has_a_docstring() -> None:
    for kind in (Client, AsyncClient, Transport, AsyncTransport):
        assert all(method.__doc__ for method in public_methods(kind).values())


def test_the_twins_send_the_same(mock: MockTransport, async_mock: AsyncMockTransport) -> None:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("segment", (IMAGE,), {"points": [(1, 2)], "min_area": 5, "model": "sam2"}),
        ("cleanup", (IMAGE, IMAGE), {"dilate": 5}),
        ("smart_remove", (IMAGE,), {"box": (1, 2, 3, 4), "model": "sam2"}),
        ("remove_background", (IMAGE,), {"background": "#ff0000", "model": "isnet"}),
        ("generative_fill", (IMAGE, IMAGE, "a bench"), {"steps": 2, "seed": 7}),
    ]
    with Client(transport=mock) as client:
        for name, args, options in calls:
            getattr(client, name)(*args, **options)

    async def main() -> None:
        async with AsyncClient(transport=async_mock) as client:
            for name, args, options in calls:
                await getattr(client, name)(*args, **options)

    asyncio.run(main())
    blocking, asynchronous = mock.calls[:5], mock.calls[5:]
    assert len(asynchronous) == 5
    for one, other in zip(blocking, asynchronous, strict=True):
        assert one.model == other.model
        assert one.inputs.keys() == other.inputs.keys()
        for name in one.inputs:
            np.testing.assert_array_equal(one.inputs[name], other.inputs[name])


def test_an_opened_image_sends_the_same_bytes_every_time(mock: MockTransport, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"first")
    client = Client(transport=mock)
    photo = client.open(path)
    path.write_bytes(b"changed since")
    client.segment(photo, points=[(1, 2)])
    client.segment(photo, points=[(1, 2), (3, 4)], labels=[1, 0], min_area=0, model="sam2")
    client.smart_remove(photo, box=(0, 0, 3, 3), dilate=5, model="sam2")
    client.cleanup(photo, IMAGE)
    client.remove_background(photo, background="red")
    assert [call.model for call in mock.calls] == [
        "segment", "segment", "smart_remove", "cleanup", "remove_background"
    ]  # fmt: skip
    assert {call.inputs["image"].item() for call in mock.calls} == {b"first"}
    assert mock.calls[1].inputs["labels"].tolist() == [[1, 0]]
    assert mock.calls[2].inputs["dilate"].tolist() == [[5]]


def test_an_array_is_encoded_once(mock: MockTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(transport=mock)
    photo = client.open(IMAGE)
    monkeypatch.setattr("nexus_client._images._png", None)  # would fail if called
    client.segment(photo, points=[(1, 2)])
    client.segment(photo, points=[(3, 4)])
    client.generative_fill(photo, photo, "a bench")  # a mask may be opened as well
    assert len(mock.calls) == 3
    assert mock.calls[2].inputs["mask"].item() == photo.encoded


def test_an_image_opened_by_asyncio(mock: MockTransport, async_mock: AsyncMockTransport) -> None:
    async def main() -> None:
        client = AsyncClient(transport=async_mock)
        photo = await client.open(b"photo")
        await client.segment(photo, points=[(1, 2)])
        await client.smart_remove(photo, points=[(1, 2)])
        await client.cleanup(photo, IMAGE)
        await client.remove_background(photo)

    asyncio.run(main())
    assert [call.inputs["image"].item() for call in mock.calls] == [b"photo"] * 4


def test_leaving_the_context_closes(mock: MockTransport, async_mock: AsyncMockTransport) -> None:
    with pytest.raises(KeyError), Client(transport=mock):
        raise KeyError
    assert mock.closed

    async def main() -> None:
        mock.closed = False
        async with AsyncClient(transport=async_mock):
            assert not mock.closed

    asyncio.run(main())
    assert mock.closed


def test_the_timeout_of_the_client_and_of_the_call(mock: MockTransport) -> None:
    Client(transport=mock).cleanup(IMAGE, IMAGE)
    Client(transport=mock, timeout=7).cleanup(IMAGE, IMAGE)
    Client(transport=mock, timeout=7).cleanup(IMAGE, IMAGE, timeout=3)
    # Encoding a 30 x 40 image takes from the budget; a tenth of a second is a hundred times what it needs.
    assert [call.timeout for call in mock.calls] == pytest.approx([60, 7, 3], abs=0.1)


def test_retries_are_on_by_default(mock: MockTransport) -> None:
    mock.faults = [Unavailable("starting")]
    Client(transport=mock).cleanup(IMAGE, IMAGE)
    assert len(mock.calls) == 2
    mock.faults = [Unavailable("starting")]
    with pytest.raises(Unavailable):
        Client(transport=mock, retries=None).cleanup(IMAGE, IMAGE)


def test_status(mock: MockTransport) -> None:
    mock.models.remove("cleanup")
    status = Client(transport=mock).status()
    assert status == Status(
        live=True,
        ready=True,
        version="2.51.0",
        pipelines={name: name != "cleanup" for name in PIPELINES},
    )


def test_value_objects_compare_and_print() -> None:
    assert RetryPolicy() == RetryPolicy(initial=0.1, maximum=2.0, multiplier=2.0)
    assert repr(RetryPolicy()) == "RetryPolicy(initial=0.1, maximum=2.0, multiplier=2.0)"
    assert EncodedImage(b"photo") == EncodedImage(b"photo")
    assert repr(EncodedImage(b"photo")) == "EncodedImage(5 bytes)"

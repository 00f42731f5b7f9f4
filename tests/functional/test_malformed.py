"""Malformed input, sent raw, is refused with one plain sentence, quickly, in little memory, and the server goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy.typing as npt
import psutil
import pytest
import tritonclient.grpc as grpc
from nexus_server.local import LocalServer
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.functional.support.deployment import processes
from tests.functional.support.malformed_cases import FILL, GROUPS, PIPELINES, UNARY, Case, Tensors, good, text
from tests.functional.support.malformed_files import jpeg_of_size

# A path, a stack, a class, a module or an address: a caller must not see any of them.
LEAKS = re.compile(
    r"[/\\]\w|Traceback|\bline \d|\.py\b|\b\w*(Error|Exception|Warning)\b|0x[0-9a-f]{4}|PIL|numpy"
)
# The required limit. It detects a hang or a decompressed bomb, which cost many times as much; a refusal takes
# milliseconds. The fastest of three tries counts, so that a busy machine does not fail the test.
LIMIT_SECONDS = 1.0
TRIES = 3
MEMORY_LIMIT = 100 * 2**20


def infer(triton: grpc.InferenceServerClient, model: str, tensors: Tensors) -> grpc.InferResult:
    """The answer of `model`. Raises InferenceServerException."""
    inputs = []
    for name, array in tensors.items():
        tensor = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    if model == FILL:
        return last_of_stream(triton, inputs)
    return triton.infer(model, inputs, client_timeout=120)


def last_of_stream(triton: grpc.InferenceServerClient, inputs: list[grpc.InferInput]) -> grpc.InferResult:
    """The last answer of generative_fill, its error with a status."""
    answers: Queue[tuple[grpc.InferResult, InferenceServerException | None]] = Queue()
    triton.start_stream(
        lambda result, error: answers.put((result, error)),
        stream_timeout=120,
        headers={"triton_grpc_error": "true"},
    )
    triton.async_stream_infer(FILL, inputs)
    triton.stop_stream()
    result, error = answers.queue[-1]
    if error:
        raise error
    return result


def refusal(triton: grpc.InferenceServerClient, case: Case) -> tuple[str, str, float]:
    """The status and sentence that `case` gets, and the seconds of its fastest try."""
    quickest = float("inf")
    for _ in range(TRIES):
        start = time.perf_counter()
        try:
            infer(triton, case.model, case.tensors)
            status, sentence = "OK", "it was accepted"
        except InferenceServerException as error:
            status, sentence = str(error.status()), str(error.message())
        quickest = min(quickest, time.perf_counter() - start)
        if quickest < LIMIT_SECONDS:
            break
    return status, sentence, quickest


def faults(group: str, status: str, sentence: str, seconds: float) -> Iterator[str]:
    """What is wrong with a refusal."""
    if status != "StatusCode.INVALID_ARGUMENT":
        yield f"status {status}"
    if LEAKS.search(sentence) or not sentence.isprintable():
        yield "not plain"
    # Triton's own sentences about tensors are longer and end without a full stop.
    if group != "tensors" and not (sentence.endswith(".") and len(sentence) <= 150):
        yield "not one short sentence"
    if seconds >= LIMIT_SECONDS:
        yield f"{seconds:.1f} s"


def peak_bytes(watched: list[psutil.Process]) -> int:
    """The sum of the processes' largest resident sizes since `forget_peaks` (proc_pid_status(5), VmHWM)."""
    total = 0
    for process in watched:
        status = Path(f"/proc/{process.pid}/status").read_text()
        total += int(status.split("VmHWM:")[1].split()[0]) * 1024
    return total


def forget_peaks(watched: list[psutil.Process]) -> None:
    """Make the present resident size the peak (proc_pid_clear_refs(5))."""
    for process in watched:
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def decoders(server: LocalServer) -> list[psutil.Process]:
    """The processes that a malformed request passes through: tritonserver and the pipelines.

    No such request reaches the networks and the supervisor, whose peaks vary with the supervisor's own probes, which
    are real inferences.
    """
    return [process for process in processes(server)[1:] if "model.onnx" not in " ".join(process.cmdline())]


def content(item: tuple[str, npt.NDArray[Any]]) -> tuple[Any, ...]:
    """A tensor as a comparable value."""
    name, array = item
    return (
        name,
        array.dtype.str,
        array.shape,
        tuple(array.ravel().tolist()) if array.dtype == object else array.tobytes(),
    )


def test_there_are_200_distinct_cases() -> None:
    cases = [case for build in GROUPS.values() for case in build()]
    distinct = {(case.model, *map(content, case.tensors.items())) for case in cases}
    assert len(distinct) == len(cases) >= 200


@pytest.mark.parametrize("group", GROUPS)
def test_malformed_requests_are_refused_and_the_next_good_one_works(
    group: str, server: LocalServer, triton: grpc.InferenceServerClient
) -> None:
    cases = list(GROUPS[group]())
    for (
        model
    ) in PIPELINES:  # allocations by the first request of all must not count against the malformed ones
        infer(triton, model, good(model))
    watched = decoders(server)
    forget_peaks(watched)
    before = peak_bytes(watched)
    found = []
    for case in cases:
        status, sentence, seconds = refusal(triton, case)
        wrong = ", ".join(faults(group, status, sentence, seconds))
        if wrong:
            found.append(f"{case.model}: {case.name}: {wrong}: {sentence}")
    grown = peak_bytes(watched) - before
    assert not found, f"{len(found)} of {len(cases)}:\n" + "\n".join(found)
    assert grown < MEMORY_LIMIT
    for model in PIPELINES:
        assert infer(triton, model, good(model)) is not None


@pytest.mark.parametrize(
    ("kind", "shape", "content"),
    [
        ("BYTES", [1, 1], b""),
        ("BYTES", [1, 1], b"\1\0"),
        ("BYTES", [1, 1], b"\xff\xff\xff\xff"),
        ("BYTES", [1, 1], b"\xff\xff\xff\x7fshort"),
        ("BYTES", [1, 1], b"\1\0\0\0ab"),
        ("BYTES", [1, 1], b"\0\0\0\0" * 2),
        ("BYTES", [1, 1_000_000_000], b"\0\0\0\0"),
        ("BYTES", [1, -1], b"\0\0\0\0"),
        ("FP32", [1, 1], b"\0\0\0\0"),
        ("NONSENSE", [1, 1], b"\0\0\0\0"),
    ],
)
@pytest.mark.parametrize("model", UNARY)
def test_bytes_that_do_not_fit_their_tensor_are_refused(
    model: str, kind: str, shape: list[int], content: bytes, triton: grpc.InferenceServerClient
) -> None:
    """As no client library would send them: the shape, the type and the bytes contradict each other."""
    tensor = grpc.InferInput("image", shape, kind)
    tensor._raw_content = content
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(model, [tensor], client_timeout=60)
    sentence = str(caught.value.message())
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT", sentence
    assert not LEAKS.search(sentence)
    assert triton.is_model_ready(model)


def test_more_than_64_mib_are_refused(triton: grpc.InferenceServerClient) -> None:
    """Apart from the others, because any request of that size takes memory and time in transit."""
    case = Case("64 MiB and a byte", "remove_background", {"image": text(bytes(64 * 2**20 + 1))})
    assert refusal(triton, case)[:2] == (
        "StatusCode.INVALID_ARGUMENT",
        "the image has 67108865 bytes; at most 67108864 are accepted.",
    )


def test_a_bad_request_does_not_fail_its_batch(triton: grpc.InferenceServerClient) -> None:
    """Bad and good requests that arrive together share batches, and each gets its own answer."""
    calls: list[Any] = []

    def send(tensors: Tensors) -> None:
        inputs = []
        for name, array in tensors.items():
            tensor = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        triton.async_infer("cleanup", inputs, lambda result, error: calls.append((result, error)))

    for number in range(8):
        send(
            good("cleanup") if number % 2 else good("cleanup") | {"image": text(jpeg_of_size(30_000, 30_000))}
        )
    deadline = time.monotonic() + 120
    while len(calls) < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    refused = [str(error.message()) for _, error in calls if error]
    assert refused == ["the image is 30000 x 30000 pixels; at most 50 megapixels are accepted."] * 4
    assert sum(result is not None for result, _ in calls) == 4

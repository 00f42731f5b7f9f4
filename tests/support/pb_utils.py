"""A stand-in for the used part of triton_python_backend_utils, which Triton provides only inside its stubs."""

from __future__ import annotations

import threading
import types
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

DTYPES = {
    "TYPE_STRING": np.object_,
    "TYPE_FP32": np.float32,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
}


class Tensor:
    def __init__(self, name: str, array: npt.NDArray[Any]) -> None:
        self._name = name
        self._array = array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> npt.NDArray[Any]:
        return self._array


class TritonError(Exception):
    INTERNAL, INVALID_ARG, UNAVAILABLE, CANCELLED = "INTERNAL", "INVALID_ARG", "UNAVAILABLE", "CANCELLED"
    NOT_FOUND = "NOT_FOUND"

    def __init__(self, message: str, code: str = INTERNAL) -> None:
        super().__init__(message)
        self._code = code

    def message(self) -> str:
        return str(self)

    def code(self) -> str:
        return self._code


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor] | None = None, error: TritonError | None = None) -> None:
        self._tensors = output_tensors or []
        self._error = error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


FINAL = 1


@dataclass
class ResponseSender:
    """Records each response with its flags; `ended` is set after the last."""

    sent: list[tuple[InferenceResponse, int]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def send(self, response: InferenceResponse, flags: int = 0) -> None:
        assert not self.ended.is_set(), "a response after the last"
        self.sent.append((response, flags))
        if flags == FINAL:
            self.ended.set()


@dataclass
class Request:
    """A request as Triton passes it to execute()."""

    tensors: dict[str, npt.NDArray[Any]]
    cancelled: bool = False
    timeout_us: int = 0
    sender: ResponseSender = field(default_factory=ResponseSender)

    def get_response_sender(self) -> ResponseSender:
        return self.sender

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, array) for name, array in self.tensors.items()]

    def timeout(self) -> int:
        return self.timeout_us

    def is_cancelled(self) -> bool:
        return self.cancelled


@dataclass
class BLS:
    """Answers every call of a network with `response`, and records the calls."""

    response: InferenceResponse = field(default_factory=InferenceResponse)
    calls: list[tuple[str, dict[str, npt.NDArray[Any]]]] = field(default_factory=list)


class MetricFamily:
    """A metric family; `metrics` holds the values by labels."""

    COUNTER, GAUGE = "counter", "gauge"
    made: ClassVar[dict[str, MetricFamily]]

    def __init__(self, name: str, _: str, kind: str) -> None:
        assert name not in self.made, "Triton refuses a second family of a name"
        self.kind, self.metrics = kind, dict[tuple[str, ...], float]()
        self.made[name] = self

    def Metric(self, labels: dict[str, str]) -> Metric:
        return Metric(self, tuple(labels.values()))


class Metric:
    def __init__(self, family: MetricFamily, labels: tuple[str, ...]) -> None:
        self._family, self._labels = family, labels
        family.metrics[labels] = 0.0

    def increment(self, value: float) -> None:
        self._family.metrics[self._labels] += value

    def set(self, value: float) -> None:
        assert self._family.kind == MetricFamily.GAUGE
        self._family.metrics[self._labels] = value


def module(bls: BLS) -> Any:
    """The module triton_python_backend_utils as a stand-in, with its log in `log`."""

    class InferenceRequest:
        def __init__(self, model_name: str, inputs: list[Tensor], **_: Any) -> None:
            bls.calls.append((model_name, {tensor.name(): tensor.as_numpy() for tensor in inputs}))

        async def async_exec(self) -> InferenceResponse:
            return bls.response

    MetricFamily.made = {}
    log: list[str] = []
    names = {
        "Tensor": Tensor,
        "TritonError": TritonError,
        "InferenceResponse": InferenceResponse,
        "InferenceRequest": InferenceRequest,
        "Logger": types.SimpleNamespace(log_error=log.append),
        "log": log,
        "PreferredMemory": lambda kind: kind,
        "TRITONSERVER_MEMORY_CPU": 0,
        "get_input_tensor_by_name": lambda request, name: Tensor(name, request.tensors[name]),
        "TRITONSERVER_RESPONSE_COMPLETE_FINAL": FINAL,
        "MetricFamily": MetricFamily,
        "triton_string_to_numpy": DTYPES.__getitem__,
    }
    stand_in = types.ModuleType("triton_python_backend_utils")
    stand_in.__dict__.update(names)
    return stand_in

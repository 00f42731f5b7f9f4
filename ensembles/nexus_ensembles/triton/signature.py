"""Between Triton's requests and responses and plain values, by a model's config."""

import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nexus_ensembles.errors import BadInput, PipelineError

# The string inputs that are files, and stay bytes; every other string is text.
FILES = ("image", "mask", "rough_mask")


class Signature:
    """The name, inputs and outputs of a config: tensors to values, values to tensors, errors to responses."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.name: str = config["name"]
        # An input of dims [1] is a plain value to the pipeline, any other an array.
        self._scalars = {
            item["name"] for item in config["input"] if item["dims"] == ["1"] or item["dims"] == [1]
        }
        self._required = [item["name"] for item in config["input"] if not item.get("optional")]
        self._dtypes = {
            item["name"]: pb_utils.triton_string_to_numpy(item["data_type"]) for item in config["output"]
        }

    def values(self, request: Any) -> dict[str, Any]:
        """The request's inputs by name, without the batch axis: files as bytes, text as str. Raises BadInput."""
        values: dict[str, Any] = {}
        for tensor in request.inputs():
            name, array = tensor.name(), tensor.as_numpy()
            if len(array) != 1:
                raise BadInput(f"{name} holds {len(array)} items; send one image a request.")
            value = array.item() if name in self._scalars else array[0]
            values[name] = _text(name, value) if isinstance(value, bytes) and name not in FILES else value
        for name in self._required:  # Triton itself only compares the number of inputs with the config's
            if name not in values:
                raise BadInput(f"{name} is missing.")
        return values

    def response(self, outputs: Mapping[str, Any]) -> Any:
        """Scalar `outputs` by name as a response with a batch axis of one."""
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor(name, np.array([[value]], self._dtypes[name]))
                for name, value in outputs.items()
            ]
        )

    def failure(self, error: Exception) -> Any:
        """The response to a request that ended in `error`.

        Unexpected exceptions are logged; the caller gets a generic message, never a stack trace.
        """
        if not isinstance(error, PipelineError):
            pb_utils.Logger.log_error(f"{self.name}: {''.join(traceback.format_exception(error))}")
            error = PipelineError(f"{self.name} failed; the server's log says why.")
        # Looked up late: while Triton completes a config, its utilities module is not whole yet.
        code = getattr(pb_utils.TritonError, error.code)
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not text in UTF-8.") from error

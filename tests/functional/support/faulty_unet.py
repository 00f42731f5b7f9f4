"""A network's model.py that a test can make fail or slow down: the onnxruntime backend behind a switch.

The switch is a file beside it that contains "full" (out of memory) or the seconds that an execution takes longer.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from nexus_backends.onnxruntime.model import TritonPythonModel as Network

SWITCH = Path(__file__).resolve().parent / "switch"


class TritonPythonModel(Network):  # type: ignore[misc]  # the backend is no package to mypy
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"]) | {"default_model_filename": "model.onnx"}
        super().initialize(args | {"model_config": json.dumps(config)})

    def execute(self, requests: list[Any]) -> list[Any]:
        word = SWITCH.read_text()
        if word == "full":  # as onnxruntime words it
            error = pb_utils.TritonError(
                "CUDA failure 2: out of memory ; GPU=0 ; file=/onnxruntime_src/cuda_call.cc"
            )
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        time.sleep(float(word))
        responses: list[Any] = super().execute(requests)
        return responses

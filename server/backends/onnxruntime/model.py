"""Triton's onnxruntime backend in Python: serves a network's model.onnx if the C++ backend is not installed.

It reads the same config.pbtxt as the C++ backend, so that a repository runs on either unchanged: thread counts come
from the parameters `intra_op_thread_count` and `inter_op_thread_count` (0, the default, means all cores), and
`memory.enable_memory_arena_shrinkage` names the arenas that return their memory after every run ("cpu:0"). This backend
alone knows `niceness`, by how much the network lets other processes have its cores first (nice(2)).

On a GPU (the instance is on one, and onnxruntime has CUDA) the requests of a batch are concatenated, run once and
split again. On a CPU they run one after another, unless the parameter `concatenate_on_cpu` is "true": there a batch
takes as much time per row as a single row does, while its memory grows with the rows (U2-Net: 0.35 GB for one, 2.9 GB
for eight), and a row run alone has exactly the bits of a row in a batch. A network of many small operations gains from
concatenation: see sdxl_unet.
"""

import json
import os
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

# Messages of onnxruntime's exceptions, on a CPU and with CUDA, when memory is out; they have no class of their own.
_OUT_OF_MEMORY = re.compile(
    "failed to allocate memory|out of memory|bad_alloc|bad allocation|_ALLOC_FAILED", re.IGNORECASE
)

_SHRINKAGE = "memory.enable_memory_arena_shrinkage"
# Metadata by nexus-export: the device an INT8 graph was built for. Graphs for a GPU quantise FP16 values, which
# onnxruntime 1.23 on a CPU rounds down, not to the nearest: pictures would be wrong without any error.
_PROCESSOR = "nexus_export.processor"


def session_options(parameters: Mapping[str, str]) -> ort.SessionOptions:
    """The options of a network's session; `parameters` are its config's, as text."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 0))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 0))
    # Each network is a process of its own: a thread pool that spins between runs takes cores from the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without it INT8 weights of 8 bits saturate on x86-64 processors without VNNI. nexus-export gives CPUs 7 bits,
    # for which it changes nothing; other networks are exact with it, and slower.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Memory patterns, one block planned for each input shape, take a third more memory and are no faster.
    options.enable_mem_pattern = False
    return options


def run_options(parameters: Mapping[str, str]) -> ort.RunOptions:
    """The options of every run of a network."""
    options = ort.RunOptions()
    if _SHRINKAGE in parameters:
        options.add_run_config_entry(_SHRINKAGE, parameters[_SHRINKAGE])
    return options


class TritonPythonModel:
    """One network in one onnxruntime session."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._name: str = config["name"]
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        # Before the session, whose threads inherit it.
        os.nice(int(parameters.get("niceness", 0)))
        options = session_options(parameters)
        self._run_options = run_options(parameters)
        self._on_gpu = (
            args["model_instance_kind"] == "GPU" and "CUDAExecutionProvider" in ort.get_available_providers()
        )
        providers: list[Any] = ["CPUExecutionProvider"]
        if self._on_gpu:
            providers.insert(
                0, ("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])})
            )
        self._concatenates = self._on_gpu or parameters.get("concatenate_on_cpu") == "true"
        artifact = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / artifact
        self._session = ort.InferenceSession(str(path), options, providers)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if metadata.get(_PROCESSOR) == "gpu" and not self._on_gpu:
            raise RuntimeError(
                f"{self._name} is INT8 built for a GPU; build it for this CPU: nexus-export build --precision int8."
            )
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._outputs = [item["name"] for item in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        groups = [requests] if self._concatenates else [[request] for request in requests]
        return [response for group in groups for response in self._run_isolated(group)]

    def _run_isolated(self, requests: list[Any]) -> list[Any]:
        """Run a batch; if it fails, run each request alone, so that only the one at fault gets the error."""
        try:
            return self._run(requests)
        except Exception as error:
            if len(requests) > 1:
                return [response for request in requests for response in self._run_isolated([request])]
            # onnxruntime's message may contain paths, so it goes to the log only
            pb_utils.Logger.log_error(f"{self._name}: {traceback.format_exc()}")
            return [pb_utils.InferenceResponse(error=self._failure(error))]

    def _failure(self, error: Exception) -> Any:
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            return pb_utils.TritonError(f"{self._name} is out of memory.", pb_utils.TritonError.UNAVAILABLE)
        return pb_utils.TritonError(
            f"{self._name} could not run on this input.", pb_utils.TritonError.INTERNAL
        )

    def _run(self, requests: list[Any]) -> list[Any]:
        batch = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        merged = (
            batch[0]
            if len(batch) == 1
            else {name: np.concatenate([inputs[name] for inputs in batch]) for name in self._inputs}
        )
        arrays = self._session.run(self._outputs, merged, self._run_options)
        ends = np.cumsum([len(inputs[self._inputs[0]]) for inputs in batch])[:-1]
        parts = [np.split(array, ends) for array in arrays]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in zip(self._outputs, row)])
            for row in zip(*parts)
        ]

"""TensorRT and TensorRT-RTX: finding the one that is asked for, and naming the GPU that it builds for.

Both have one Python API. TensorRT times kernels on the machine's GPU and builds the plans that Triton's TensorRT
backend serves; TensorRT-RTX compiles for a GPU that need not be there, and its engines are not plans.
"""

import importlib
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from nexus_export.errors import BuildError

# GPU architectures that networks are built for: "sm86" is compute capability 8.6.
ARCHITECTURES = ("sm75", "sm80", "sm86", "sm89", "sm90", "sm120")

BACKENDS = ("tensorrt", "rtx")

_TITLES = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
# TensorRT-RTX's libraries are a package of their own that must be loaded before its bindings.
_MODULES = {"tensorrt": ("tensorrt",), "rtx": ("tensorrt_rtx_libs", "tensorrt_rtx_bindings")}
_FILES = {"tensorrt": "model.plan", "rtx": "model.rtx"}
_QUERY = ("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")


@dataclass(frozen=True)
class Library:
    """A TensorRT that can build.

    `backend` is one of `BACKENDS`, `api` its Python module, `file` the name that its engines get.
    """

    backend: str
    api: Any
    version: str
    file: str

    @property
    def title(self) -> str:
        """Its name in sentences."""
        return _TITLES[self.backend]

    def aim(self, config: Any, gpu: str) -> None:
        """Let an `IBuilderConfig` build for `gpu`, which has passed `check`."""
        if self.backend == "rtx":
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(self.api.ComputeCapability, gpu.upper()), 0)

    def check(self, gpu: str) -> None:
        """Raise BuildError where this library cannot build for `gpu`, one of `ARCHITECTURES`."""
        if self.backend == "tensorrt":
            found = local_gpus()
            if gpu not in found:
                raise BuildError(
                    f"TensorRT builds for this machine's GPU, which is {' and '.join(found) or 'none'}, not {gpu}; "
                    f"run this on a machine with that GPU."
                )
        elif gpu.upper() not in self.api.ComputeCapability.__members__:
            raise BuildError(
                f"TensorRT-RTX does not build for {gpu}; use --backend tensorrt on a machine with that GPU."
            )


def load(backend: str) -> Library:
    """The library of this environment that `backend` names.

    Raises BuildError if it is not installed, or cannot be loaded.
    """
    title = _TITLES[backend]
    try:
        *_, api = (importlib.import_module(name) for name in _MODULES[backend])
    except ModuleNotFoundError:
        other = "" if backend == "rtx" else "; --backend rtx needs no GPU, and shows that networks compile"
        raise BuildError(
            f"{title} is not in this environment; run: pip install 'nexus-export[{backend}]'{other}"
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise BuildError(
            f"{title} cannot be loaded ({reason}); install it as its release notes say."
        ) from None
    return Library(backend, api, str(api.__version__), _FILES[backend])


def local_gpus() -> list[str]:
    """The architectures of this machine's NVIDIA GPUs, ["sm86"]; none without the vendor's driver."""
    if shutil.which(_QUERY[0]) is None:
        return []
    done = subprocess.run(_QUERY, capture_output=True, text=True)
    words = done.stdout.split() if done.returncode == 0 else []
    return sorted({f"sm{word.replace('.', '')}" for word in words})

"""Which models of a repository can be served, and what the others lack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from nexus_server.errors import ServerError

ARTIFACTS = ("model.plan", "model.onnx")
ModelConfig = model_config_pb2.ModelConfig


@dataclass(frozen=True)
class Repository:
    """The configs of the models that are ready, by name, and one sentence a model that is not."""

    ready: dict[str, ModelConfig]
    missing: dict[str, str]


def scan(folder: Path) -> Repository:
    """Read every config.pbtxt below `folder`.

    A network is ready when its version folder holds an artifact; a pipeline when the networks that its config's
    parameter `networks` lists are. Raises ServerError for a folder without models and for a malformed config.
    """
    configs = {path.parent.name: _read(path) for path in sorted(folder.glob("*/config.pbtxt"))}
    if not configs:
        raise ServerError(f"{folder} holds no models; give the model repository with --models.")
    ready: dict[str, ModelConfig] = {}
    missing: dict[str, str] = {}
    for name, config in configs.items():
        if config.backend == "python":
            continue
        if any((folder / name / "1" / artifact).exists() for artifact in ARTIFACTS):
            ready[name] = config
        else:
            missing[name] = f"not built; run: nexus-export build {name}"
    for name, config in configs.items():
        if config.backend != "python":
            continue
        absent = [network for network in config.parameters["networks"].string_value.split() if network not in ready]
        if absent:
            missing[name] = f"needs {', '.join(absent)}"
        else:
            ready[name] = config
    if not ready:
        raise ServerError("no network is built, so there is nothing to serve; run: nexus-export build")
    return Repository(ready, missing)


def link(folder: Path, names: list[str], into: Path) -> Path:
    """Make the repository that Triton loads: links to the named models of `folder`, below `into`."""
    into.mkdir()
    for name in names:
        (into / name).symlink_to((folder / name).resolve())
    return into


def _read(path: Path) -> ModelConfig:
    try:
        return text_format.Parse(path.read_text(), ModelConfig())
    except text_format.ParseError as error:
        raise ServerError(f"{path} is not a model configuration ({error}); mend or remove it.") from error

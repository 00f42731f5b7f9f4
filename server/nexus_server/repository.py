"""Reads a model repository: which models can be served, and what the others lack."""

import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from nexus_server import engines
from nexus_server.engines import NO_GPU, ONNX, PLAN, Choice, Node
from nexus_server.errors import ServerError

# The default folder of nexus-export and nexus-server alike.
DEFAULT_FOLDER = Path("model_repository")
# The parameters of a pipeline that list networks it can do without, and what those are for.
REQUESTED = "optional_networks"
OPTIONAL = {
    "fallback_networks": "which would serve when its other networks cannot",
    REQUESTED: "which a request may ask for",
}


@dataclass(frozen=True)
class Repository:
    """The models of a repository in `folder`, by name.

    `ready` are the configs of those that can be served; `missing` is why the others cannot; `degraded` is what some of
    the ready ones do without; `plans` is which TensorRT plans serve, and what serves in place of those that do not.
    """

    folder: Path
    ready: dict[str, ModelConfig]
    missing: dict[str, str]
    degraded: dict[str, str]
    plans: dict[str, str]

    def messages(self) -> Iterator[str]:
        """One line for each model that is missing or degraded, or has a plan."""
        yield from (f"not serving {name}: {reason}" for name, reason in self.missing.items())
        yield from (f"serving {name} {lack}" for name, lack in self.degraded.items())
        yield from (f"{name}: {plan}" for name, plan in self.plans.items())


def scan(folder: Path, node: Node = NO_GPU) -> Repository:
    """Read every config.pbtxt below `folder`.

    A network is ready if its version folder holds an artifact for `node`, which completes its config. A pipeline is
    ready if all networks in its parameter `networks` are. A parameter of OPTIONAL with a network that is not ready is
    removed from the pipeline's config. Raises ServerError if `folder` has no models or a config is malformed.
    """
    configs = {path.parent.name: _read(path) for path in sorted(folder.glob("*/config.pbtxt"))}
    if not configs:
        raise ServerError(f"{folder} holds no models; give the model repository with --models.")
    ready: dict[str, ModelConfig] = {}
    missing: dict[str, str] = {}
    degraded: dict[str, str] = {}
    plans: dict[str, str] = {}
    requested = {network for config in configs.values() for network in networks_of(config, REQUESTED)}
    for name, config in configs.items():
        if config.backend == "python":
            if not networks_of(config):  # a network in Python, or a pipeline that needs none
                ready[name] = config
            continue
        choice = engines.choose(folder / name / "1", node)
        if choice.file:
            choice.complete(config)
            ready[name] = config
            if choice.complaint:
                plans[name] = f"its TensorRT plan {choice.complaint}; serving {choice.file}"
            elif choice.file == PLAN:
                plans[name] = f"TensorRT plan for {node.gpus[0]}, at most {config.max_batch_size} rows"
        elif choice.complaint:
            missing[name] = f"its TensorRT plan {choice.complaint}; {_plan_remedy(folder, name, node)}"
        elif name not in requested:  # optional networks need not be built
            missing[name] = f"not built; {_remedy(folder, name)}"
    pipelines = {
        name: config for name, config in configs.items() if config.backend == "python" and name not in ready
    }
    missing |= _resolve_pipelines(pipelines, ready, degraded)
    if not ready:
        raise ServerError(f"no network is built, so there is nothing to serve; {_remedy(folder)}")
    return Repository(folder, ready, missing, degraded, plans)


def drop_models(repository: Repository, unloaded: Collection[str]) -> Repository:
    """`repository` without the models `unloaded`, which did not load; its messages are only the new ones.

    A network that has an ONNX file beside its plan falls back to that. Any other is dropped, and with it the pipelines
    that need it.
    """
    ready: dict[str, ModelConfig] = {}
    missing: dict[str, str] = {}
    degraded: dict[str, str] = {}
    plans: dict[str, str] = {}
    pipelines: dict[str, ModelConfig] = {}
    for name, config in repository.ready.items():
        if name not in unloaded:
            (pipelines if networks_of(config) else ready)[name] = config
        elif config.default_model_filename == PLAN and (repository.folder / name / "1" / ONNX).exists():
            ready[name] = _read(repository.folder / name / "config.pbtxt")
            Choice(ONNX, "").complete(ready[name])
            plans[name] = f"its TensorRT plan does not load here; serving {ONNX}"
        else:
            missing[name] = "it did not load; the server's messages above say why"
    missing |= _resolve_pipelines(pipelines, ready, degraded, ", which did not load")
    return Repository(repository.folder, ready, missing, degraded, plans)


def _resolve_pipelines(
    pipelines: dict[str, ModelConfig], ready: dict[str, ModelConfig], degraded: dict[str, str], why: str = ""
) -> dict[str, str]:
    """Move `pipelines` whose networks are ready to `ready`, and return what the others need.

    `degraded` gets the optional networks that they do without.
    """
    missing: dict[str, str] = {}
    for name, config in pipelines.items():
        if absent := [network for network in networks_of(config) if network not in ready]:
            missing[name] = f"needs {', '.join(absent)}{why}"
            continue
        ready[name] = config
        for parameter, purpose in OPTIONAL.items():
            if absent := [network for network in networks_of(config, parameter) if network not in ready]:
                degraded[name] = f"without {', '.join(absent)}, {purpose}"
                del config.parameters[parameter]
    return missing


def networks_of(config: ModelConfig, parameter: str = "networks") -> list[str]:
    """The networks in a pipeline's parameter `networks`, or in one of OPTIONAL; empty if it is absent."""
    return value_of(config, parameter).split()


def value_of(config: ModelConfig, parameter: str) -> str:
    """The text of a config's parameter; "" if it is absent."""
    # Reading an absent key of a protobuf map inserts it, and Triton would get an empty parameter.
    return str(config.parameters[parameter].string_value) if parameter in config.parameters else ""


def assemble(folder: Path, models: dict[str, ModelConfig], into: Path) -> Path:
    """Write the repository that Triton loads: the completed configs, and links to the version folders of `folder`.

    Given complete configs, Triton does not have to start every model an extra time to auto-complete its config.
    """
    for name, config in models.items():
        (into / name).mkdir(parents=True)
        (into / name / "config.pbtxt").write_text(text_format.MessageToString(config))
        (into / name / "1").symlink_to((folder / name / "1").resolve())
    return into


def _remedy(folder: Path, *networks: str) -> str:
    """The commands that build `networks`, or all, into `folder`: the installed one, and make in a checkout."""
    build = " ".join(["nexus-export build", *networks])
    if folder == DEFAULT_FOLDER:
        return f"run: {build} (in a checkout: make models)"
    path = shlex.quote(str(folder))
    return f"run: {build} --out {path} (in a checkout: make models MODELS={path})"


def _plan_remedy(folder: Path, network: str, node: Node) -> str:
    """What gives `network`, which has only a plan, an artifact for `node`.

    Not `nexus-export build NETWORK`, which would build the compact network in place of the one that the plan is from.
    """
    if node.tensorrt is None or len(node.gpus) != 1:
        return "build it from its checkpoint again"
    out = "" if folder == DEFAULT_FOLDER else f" --out {shlex.quote(str(folder))}"
    return f"put its {ONNX} beside it and run: nexus-export engine {network} --gpu {node.gpus[0]}{out}"


def _read(path: Path) -> ModelConfig:
    try:
        config: ModelConfig = text_format.Parse(path.read_text(), ModelConfig())
        return config
    except text_format.ParseError as error:
        raise ServerError(f"{path} is not a model configuration ({error}); fix or remove it.") from error

"""Which models of a repository can be served, and what the others lack."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from nexus_server import engines
from nexus_server.engines import NO_GPU, ONNX, PLAN, Choice, Node
from nexus_server.errors import ServerError

# Where nexus-export builds to, and nexus-server looks, unless told otherwise.
DEFAULT_FOLDER = Path("model_repository")
# The parameters of a pipeline that list networks which it can do without, and what those are for.
REQUESTED = "optional_networks"
OPTIONAL = {
    "fallback_networks": "which would serve when its other networks cannot",
    REQUESTED: "which a request may ask for",
}


@dataclass(frozen=True)
class Repository:
    """The configs of the models that are ready, by name; why the others are not; what some of the ready lack.

    `folder` is where they lie; `plans` tells which plans serve, and what instead of those that do not.
    """

    folder: Path
    ready: dict[str, ModelConfig]
    missing: dict[str, str]
    reduced: dict[str, str]
    plans: dict[str, str]

    def sentences(self) -> Iterator[str]:
        """What is not as the folder would have it, a sentence a model."""
        yield from (f"not serving {name}: {reason}" for name, reason in self.missing.items())
        yield from (f"serving {name} {lack}" for name, lack in self.reduced.items())
        yield from (f"{name}: {plan}" for name, plan in self.plans.items())


def scan(folder: Path, node: Node = NO_GPU) -> Repository:
    """Read every config.pbtxt below `folder`.

    A network is ready when its version folder holds an artifact for `node`, which completes its config; a
    pipeline is ready when the networks that its config's parameter `networks` lists are. Those of each parameter of
    OPTIONAL are all ready or are taken out of its config: it then does without. Raises ServerError for a folder
    without models and for a malformed config.
    """
    configs = {path.parent.name: _read(path) for path in sorted(folder.glob("*/config.pbtxt"))}
    if not configs:
        raise ServerError(f"{folder} holds no models; give the model repository with --models.")
    ready: dict[str, ModelConfig] = {}
    missing: dict[str, str] = {}
    reduced: dict[str, str] = {}
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
        elif name not in requested:  # what nobody built nobody misses before a request asks for it
            missing[name] = f"not built; {_remedy(folder, name)}"
    pipelines = {
        name: config for name, config in configs.items() if config.backend == "python" and name not in ready
    }
    missing |= _add(pipelines, ready, reduced)
    if not ready:
        raise ServerError(f"no network is built, so there is nothing to serve; {_remedy(folder)}")
    return Repository(folder, ready, missing, reduced, plans)


def without(found: Repository, unloaded: Collection[str]) -> Repository:
    """`found` when `unloaded`, some of its models, did not load; of what it lacks it tells only what is new.

    The ONNX file beside a plan serves in its place. Any other is taken out, and with it the pipelines that need it.
    """
    ready: dict[str, ModelConfig] = {}
    missing: dict[str, str] = {}
    reduced: dict[str, str] = {}
    plans: dict[str, str] = {}
    pipelines: dict[str, ModelConfig] = {}
    for name, config in found.ready.items():
        if name not in unloaded:
            (pipelines if networks_of(config) else ready)[name] = config
        elif config.default_model_filename == PLAN and (found.folder / name / "1" / ONNX).exists():
            ready[name] = _read(found.folder / name / "config.pbtxt")
            Choice(ONNX, "").complete(ready[name])
            plans[name] = f"its TensorRT plan does not load here; serving {ONNX}"
        else:
            missing[name] = "it did not load; the server's messages above say why"
    missing |= _add(pipelines, ready, reduced, ", which did not load")
    return Repository(found.folder, ready, missing, reduced, plans)


def _add(
    pipelines: dict[str, ModelConfig], ready: dict[str, ModelConfig], reduced: dict[str, str], why: str = ""
) -> dict[str, str]:
    """Add to `ready` the `pipelines` whose networks are there, to `reduced` what they lack; what the others need."""
    missing: dict[str, str] = {}
    for name, config in pipelines.items():
        if absent := [network for network in networks_of(config) if network not in ready]:
            missing[name] = f"needs {', '.join(absent)}{why}"
            continue
        ready[name] = config
        for parameter, purpose in OPTIONAL.items():
            if absent := [network for network in networks_of(config, parameter) if network not in ready]:
                reduced[name] = f"without {', '.join(absent)}, {purpose}"
                del config.parameters[parameter]
    return missing


def networks_of(config: ModelConfig, parameter: str = "networks") -> list[str]:
    """The networks that a pipeline calls, as its parameter `networks` or one of OPTIONAL lists them, or none."""
    return value_of(config, parameter).split()


def value_of(config: ModelConfig, parameter: str) -> str:
    """The text of a config's parameter; "" where there is none."""
    # Reading an absent key of a protobuf map would put it there, and so into what Triton is given.
    return str(config.parameters[parameter].string_value) if parameter in config.parameters else ""


def assemble(folder: Path, models: dict[str, ModelConfig], into: Path) -> Path:
    """Make the repository that Triton loads: the completed configs, and links to the version folders of `folder`.

    With complete configs Triton need not start every model once more to ask it for what is missing.
    """
    for name, config in models.items():
        (into / name).mkdir(parents=True)
        (into / name / "config.pbtxt").write_text(text_format.MessageToString(config))
        (into / name / "1").symlink_to((folder / name / "1").resolve())
    return into


def _remedy(folder: Path, *networks: str) -> str:
    """What builds `networks`, or all, into `folder`: by the installed command, or in a checkout."""
    if folder == DEFAULT_FOLDER:
        return f"run: {' '.join(['nexus-export build', *networks])} (in a checkout: make models)"
    build = " ".join(["nexus-export build", *networks, "--out", str(folder)])
    return f"run: {build} (in a checkout: make models MODELS={folder})"


def _plan_remedy(folder: Path, network: str, node: Node) -> str:
    """What gives `network` an artifact for `node` where only its plan lies there.

    Never `nexus-export build NETWORK` alone: that would build a small one in place of the one the plan was made of.
    """
    if node.tensorrt is None or len(node.gpus) != 1:
        return "build it from its checkpoint again"
    out = "" if folder == DEFAULT_FOLDER else f" --out {folder}"
    return f"put its {ONNX} beside it and run: nexus-export engine {network} --gpu {node.gpus[0]}{out}"


def _read(path: Path) -> ModelConfig:
    try:
        config: ModelConfig = text_format.Parse(path.read_text(), ModelConfig())
        return config
    except text_format.ParseError as error:
        raise ServerError(f"{path} is not a model configuration ({error}); mend or remove it.") from error

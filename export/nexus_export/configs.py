"""Write the tensors of each network's config.pbtxt: `python -m nexus_export.configs`, in a checkout.

The rest of a config (batching, memory, caching) is serving's choice, and written by hand.
"""

from pathlib import Path

from nexus_export.networks import NETWORKS, Network, Range, Tensor

BEGIN = "# From export/nexus_export/networks.py, by python -m nexus_export.configs:\n"
END = "# End of what is written by machine.\n"


def tensors_text(network: Network) -> str:
    """The lines of the config between `BEGIN` and `END`: the largest batch, inputs, outputs and a warm-up."""
    lines = [f"max_batch_size: {network.max_batch}"]
    for key, tensors in (("input", network.inputs), ("output", network.outputs)):
        lines += [f"{key} [", *_separated(tensors), "]"]
    # Without the widths that a checkpoint fixes there is nothing to warm up with.
    axes = {dim for tensor in network.inputs for dim in tensor.dims if isinstance(dim, str)}
    if all(network.axes[axis] for axis in axes):
        # The least sizes keep starting quick, and lie within an engine's profile.
        lines += ["model_warmup {", '  name: "one row of the least size"', "  batch_size: 1"]
        lines += [_warm_up(network, tensor) for tensor in network.inputs]
        lines += ["}"]
    return "".join(f"{line}\n" for line in lines)


def rewritten(config: str, network: Network) -> str:
    """The text of a config.pbtxt with a new part between `BEGIN` and `END`."""
    before, _, rest = config.partition(BEGIN)
    return before + BEGIN + tensors_text(network) + END + rest.partition(END)[2]


def main() -> None:
    """Rewrite the configs of all networks in the checkout around this package."""
    for network in NETWORKS.values():
        path = Path(__file__).parents[2] / "model_repository" / network.name / "config.pbtxt"
        path.write_text(rewritten(path.read_text(), network))


def _separated(tensors: tuple[Tensor, ...]) -> list[str]:
    lines = []
    for tensor in tensors:
        comma = "" if tensor is tensors[-1] else ","
        dims = ", ".join("-1" if isinstance(dim, str) else str(dim) for dim in tensor.dims)
        axes = ", ".join(dim for dim in tensor.dims if isinstance(dim, str))
        comment = f"  # -1: {axes}" if axes else ""
        lines.append(
            f'  {{ name: "{tensor.name}" data_type: TYPE_{tensor.dtype} dims: [ {dims} ] }}{comma}{comment}'
        )
    return lines


def _warm_up(network: Network, tensor: Tensor) -> str:
    sizes = [network.axes[dim] if isinstance(dim, str) else dim for dim in tensor.dims]
    dims = ", ".join(str(size.least if isinstance(size, Range) else size) for size in sizes)
    # A photo of one colour could take a short cut that no other takes; empty masks leave every path open.
    data = "random_data" if tensor.name == "image" else "zero_data"
    value = f"{{ data_type: TYPE_{tensor.dtype} dims: [ {dims} ] {data}: true }}"
    return f'  inputs {{ key: "{tensor.name}" value {value} }}'


if __name__ == "__main__":
    main()

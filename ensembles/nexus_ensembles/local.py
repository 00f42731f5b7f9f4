"""Pipelines without a server, for debugging and parity tests: networks run in this process by onnxruntime."""

import asyncio
from pathlib import Path

import onnxruntime

from nexus_ensembles.errors import NotBuilt, OutOfMemory, is_out_of_memory
from nexus_ensembles.networks import Array


class LocalNetworks:
    """The built networks of a model repository, each loaded at its first call.

    Usage:

        networks = LocalNetworks(Path("model_repository"))
        outputs = asyncio.run(cleanup.run(networks, image=photo, mask=mask))
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    async def run(self, network: str, **inputs: Array) -> dict[str, Array]:
        """See `nexus_ensembles.networks.Networks`."""
        rows = await self.run_rows(network, **{name: array[None] for name, array in inputs.items()})
        return {name: array[0] for name, array in rows.items()}

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        """See `nexus_ensembles.networks.Networks`."""
        if network not in self._sessions:
            path = self._repository / network / "1/model.onnx"
            if not path.exists():
                raise NotBuilt(f"{network} is not built; run: nexus-export build {network}")
            self._sessions[network] = onnxruntime.InferenceSession(str(path))
        session = self._sessions[network]
        try:
            outputs = await asyncio.to_thread(session.run, None, inputs)
        except Exception as error:  # onnxruntime has no class for memory alone
            if is_out_of_memory(str(error)):
                raise OutOfMemory(f"out of memory: {network} has no room for the request.") from error
            raise
        return {item.name: array for item, array in zip(session.get_outputs(), outputs)}

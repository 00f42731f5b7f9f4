"""Pipelines without a server, for debugging and parity tests: networks run in this process by onnxruntime."""

from __future__ import annotations

import asyncio
from pathlib import Path

import onnxruntime

from nexus_ensembles.errors import NetworkFailed
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
        if network not in self._sessions:
            path = self._repository / network / "1/model.onnx"
            if not path.exists():
                raise NetworkFailed(f"{network} is not built; run: nexus-export build {network}")
            self._sessions[network] = onnxruntime.InferenceSession(str(path))
        session = self._sessions[network]
        batch = {name: array[None] for name, array in inputs.items()}
        outputs = await asyncio.to_thread(session.run, None, batch)
        return {item.name: array[0] for item, array in zip(session.get_outputs(), outputs)}

"""A hung network of generative fill is noticed, although only the pipeline can probe it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nexus_client import Client
from nexus_server.local import LocalServer

from tests.functional.support.deployment import ROOT
from tests.functional.support.fills import PHOTO, PROMPT, SIZE, faulty_repository, hole

# 5 s between two probes, 30 s without an answer or CPU use, and the start of another server.
RECOVERY_S = 90.0
REASON = "restarting: generative_fill has neither answered nor worked"


def test_a_hung_unet_is_noticed_and_its_fill_completes(tmp_path: Path) -> None:
    """The client sends the fill again, which the restart has interrupted."""
    switches = faulty_repository(tmp_path / "models")
    with (
        LocalServer(switches.models, ROOT / "build/hung-server.log") as server,
        Client(server.url, timeout=RECOVERY_S) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        with switches.hung():
            fill = pool.submit(client.generative_fill, PHOTO, hole(*SIZE), PROMPT, steps=4, strength=1.0)
            deadline = time.monotonic() + RECOVERY_S
            while REASON not in server.log.read_text():
                assert time.monotonic() < deadline, "the hung network was not noticed"
                assert not fill.done()
                time.sleep(0.5)
        assert fill.result().image.size == SIZE

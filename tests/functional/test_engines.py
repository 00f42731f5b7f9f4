"""Engines and graphs that cannot serve: a plan for another machine, a truncated plan, a corrupt ONNX file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as grpc
from nexus_client import Client, InvalidInput, NotDeployed
from nexus_server.local import LocalServer

from tests.functional.support.deployment import MODELS, PHOTOS, ROOT, executions

SERVED = ("u2net", "isnet", "remove_background", "lama", "cleanup", "sam_encoder", "sam_decoder", "segment")
ENGINE = bytes(1000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """On a machine whose driver reports an sm86 GPU: two plans do not fit it, two networks are corrupt."""
    folder = tmp_path_factory.mktemp("engines")
    models = folder / "models"
    for name in SERVED:
        shutil.copytree(MODELS / name, models / name, copy_function=os.link)
    plan(models / "u2net/1", "sm75")
    plan(models / "lama/1", "sm86").write_bytes(ENGINE[:600])
    graph = models / "sam_encoder/1/model.onnx"
    content = graph.read_bytes()
    graph.unlink()  # the file itself is linked to the repository's
    graph.write_bytes(content[: len(content) // 2])
    other = models / "isnet/1/model.onnx"
    other.parent.mkdir(exist_ok=True)  # only a build creates it
    other.unlink(missing_ok=True)
    other.write_bytes(b"no graph")
    driver = folder / "bin/nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 8.6\n")
    driver.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(driver.parent), prepend=os.pathsep)
        with LocalServer(models, ROOT / "build/engines-server.log") as running:
            # It is ready once with all models, although some did not load, and again without those.
            deadline = time.monotonic() + 60
            while " at grpc " not in running.log.read_text():
                assert time.monotonic() < deadline, "the server does not serve"
                time.sleep(0.1)
            yield running


def plan(folder: Path, gpu: str) -> Path:
    """Put a plan for `gpu` with a manifest beside the network in `folder`, as `nexus-export engine` does."""
    onnx = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    manifest = {
        "network": folder.parent.name,
        "gpu": gpu,
        "library": "tensorrt",
        "library_version": "10.13.2.6",
        "onnx_sha256": {"model.onnx": onnx},
        "profile": {"image": {"least": [1, 64, 64, 3], "usual": [2, 64, 64, 3], "most": [4, 64, 64, 3]}},
        "engine_sha256": hashlib.sha256(ENGINE).hexdigest(),
        "engine_bytes": len(ENGINE),
    }
    (folder / "model.plan.json").write_text(json.dumps(manifest))
    (folder / "model.plan").write_bytes(ENGINE)
    return folder / "model.plan"


def test_the_onnx_file_serves_for_a_plan_that_does_not_fit(server: LocalServer) -> None:
    """And the log reports that once for each, in one line."""
    with Client(server.url) as client:
        mask = client.remove_background(PHOTOS / "chelsea.jpg", background="transparent").getchannel("A")
        assert client.cleanup(PHOTOS / "chelsea.jpg", mask).size == (451, 300)
    lines = [line for line in server.log.read_text().splitlines() if "TensorRT" in line]
    assert lines == [
        "nexus-server: lama: its TensorRT plan has 600 bytes where its manifest says 1000; serving model.onnx",
        "nexus-server: u2net: its TensorRT plan is for sm75, this GPU is sm86; serving model.onnx",
    ]


def test_a_corrupt_network_is_named_and_the_others_serve(server: LocalServer) -> None:
    """Pipelines that need it are not served, and a client gets that answer at once, without retries."""
    sentences = [line for line in server.log.read_text().splitlines() if line.startswith("nexus-server:")]
    unloaded = "it did not load; the server's messages above say why"
    assert sentences[3:-1] == [
        f"nexus-server: not serving isnet: {unloaded}",
        f"nexus-server: not serving sam_encoder: {unloaded}",
        "nexus-server: not serving segment: needs sam_encoder, which did not load",
        "nexus-server: serving remove_background without isnet, which a request may ask for",
        "nexus-server: restarting: some models did not load",
    ]
    served = sentences[-1].partition(" at grpc ")[0].removeprefix("nexus-server: serving ")
    assert sorted(served.split(", ")) == sorted({*SERVED} - {"isnet", "sam_encoder", "segment"})
    with Client(server.url) as client:
        with pytest.raises(NotDeployed, match="does not serve 'segment'"):
            client.segment(PHOTOS / "chelsea.jpg", points=[(200, 150)])
        with pytest.raises(InvalidInput, match="isnet is not available on this server"):
            client.remove_background(PHOTOS / "chelsea.jpg", model="isnet")


def test_dropped_models_cause_no_restart(server: LocalServer) -> None:
    """Two rounds of the supervisor's probes find no fault."""
    with contextlib.closing(grpc.InferenceServerClient(server.url)) as triton:
        before = executions(triton, "cleanup")
        deadline = time.monotonic() + 30
        while executions(triton, "cleanup") < before + 2:
            assert time.monotonic() < deadline, "the pipeline is not probed"
            time.sleep(0.2)
    assert server.log.read_text().count("restarting") == 1

"""The `nexus-server` command."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import socket
import sys
import tempfile
from pathlib import Path

from nexus_server import repository, triton
from nexus_server.errors import ServerError
from nexus_server.supervisor import Settings, Supervisor, say


def main() -> None:
    """Parse the command line and serve; exit status 1 and one sentence when that is not possible."""
    options = _parser().parse_args()
    try:
        serve(options)
    except ServerError as error:
        sys.exit(f"nexus-server: {error}")


def serve(options: argparse.Namespace) -> None:
    """Find tritonserver, link what is ready, and supervise until a signal says stop. Raises ServerError."""
    models = repository.scan(options.models)
    for name, reason in models.missing.items():
        say(f"not serving {name}: {reason}")
    with tempfile.TemporaryDirectory(prefix="nexus-server-") as folder:
        runtime = Path(folder)
        found = triton.find(runtime)
        host = options.host or ("127.0.0.1" if found.embedded else "0.0.0.0")
        if found.embedded and not _is_loopback(host):
            raise ServerError(
                f"the embedded tritonserver {triton.EMBEDDED_VERSION} has known security holes and serves loopback "
                f"addresses only, not {host}; use the vendor's image to serve a network."
            )
        settings = Settings(
            host, options.grpc_port, options.http_port, options.metrics_port, options.cache_bytes
        )
        for port in (settings.grpc_port, settings.http_port, settings.metrics_port):
            _check_free(host, port)
        assembled = repository.assemble(options.models, models.ready, runtime / "models")
        asyncio.run(Supervisor(found, assembled, models, settings).run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nexus-server",
        description="Serve a model repository with Triton, and keep it serving.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--models", type=Path, default=Path("model_repository"), help="the model repository")
    parser.add_argument(
        "--host", help="address to listen on (default: 127.0.0.1 when embedded, else 0.0.0.0)"
    )
    parser.add_argument("--grpc-port", type=int, default=8001, help="port of the gRPC endpoint")
    parser.add_argument("--http-port", type=int, default=8000, help="port of the HTTP endpoint")
    parser.add_argument("--metrics-port", type=int, default=8002, help="port of the Prometheus metrics")
    parser.add_argument(
        "--cache-bytes", type=int, default=256 * 2**20, help="memory for cached image embeddings"
    )
    return parser


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        return False


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"port {port} of {host} cannot be used ({error.strerror}); choose another."
            ) from error

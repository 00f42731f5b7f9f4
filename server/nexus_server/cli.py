"""The `nexus-server` command."""

import argparse
import asyncio
import ipaddress
import math
import signal
import socket
import sys
import tempfile
from pathlib import Path

from nexus_server import installation, repository
from nexus_server.engines import find_node
from nexus_server.errors import ServerError
from nexus_server.log import log
from nexus_server.supervisor import Supervisor
from nexus_server.tritonserver import Settings


def main() -> None:
    """Parse the command line and serve; exit with status 1 and one sentence if that is not possible."""
    options = _parser().parse_args()
    # Until the supervisor takes over, SIGTERM must leave neither a traceback nor a temporary folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if options.check:
            installation.check_machine()
        else:
            serve(options)
    except ServerError as error:
        sys.exit(f"nexus-server: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def serve(options: argparse.Namespace) -> None:
    """Find tritonserver, assemble what is ready, and supervise it until a signal. Raises ServerError."""
    ports = (options.grpc_port, options.http_port, options.metrics_port)
    if len(set(ports)) < len(ports):
        raise ServerError("gRPC, HTTP and metrics need a port each; give three different ones.")
    models = repository.scan(options.models, find_node())
    for message in models.messages():
        log(message)
    with tempfile.TemporaryDirectory(prefix="nexus-server-") as folder:
        runtime = Path(folder)
        found = installation.find(runtime)
        host = options.host or ("127.0.0.1" if found.embedded else "0.0.0.0")
        if found.embedded and not ipaddress.IPv4Address(host).is_loopback:
            raise ServerError(
                f"the embedded tritonserver {installation.EMBEDDED_VERSION} has known security holes and serves "
                f"loopback addresses only, not {host}; use the vendor's image to serve a network."
            )
        for port in ports:
            _check_free(host, port)
        assembled = repository.assemble(options.models, models.ready, runtime / "models")
        settings = Settings(host, *ports, options.cache_bytes, options.start_timeout)
        asyncio.run(Supervisor(found, assembled, models, settings).run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nexus-server",
        description="Serve a model repository with Triton, and keep it serving.",
    )
    parser.add_argument(
        "--models",
        type=Path,
        default=repository.DEFAULT_FOLDER,
        help="the model repository (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        type=_ipv4,
        help="IPv4 address to listen on (default: 127.0.0.1 when embedded, else 0.0.0.0)",
    )
    parser.add_argument(
        "--grpc-port", type=_port, default=8001, help="port of the gRPC endpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--http-port", type=_port, default=8000, help="port of the HTTP endpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--metrics-port",
        type=_port,
        default=8002,
        help="port of the Prometheus metrics (default: %(default)s)",
    )
    parser.add_argument(
        "--cache-bytes",
        type=int,
        default=256 * 2**20,
        help="memory for cached image embeddings (default: %(default)s)",
    )
    parser.add_argument(
        "--start-timeout",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="how long a start may take; large networks need longer on a CPU (default: %(default)g)",
    )
    parser.add_argument(
        "--check", action="store_true", help="only report what this machine lacks; start nothing"
    )
    return parser


def _ipv4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{host} is not an IPv4 address; 127.0.0.1 serves this machine only, 0.0.0.0 all its networks."
        ) from None


def _port(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a port; choose one of 1 to 65535.")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if 0 < seconds < math.inf:
        return seconds
    raise argparse.ArgumentTypeError(f"{text} is not a duration; give seconds, more than 0.")


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"port {port} of {host} cannot be used ({error.strerror}); choose another."
            ) from error

"""The server's own lines in the log, which tritonserver and its stubs write to as well."""


def log(message: str) -> None:
    """Print one line, marked as nexus-server's."""
    print(f"nexus-server: {message}", flush=True)

"""The command `nexus-export`, one module a subcommand."""

from nexus_export.cli.app import app, main

__all__ = ["app", "main"]

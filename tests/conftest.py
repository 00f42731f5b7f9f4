"""What holds for every test."""

from __future__ import annotations

import signal

# A shell lets what it starts in its background ignore SIGINT, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

"""Set-up of all tests."""

from __future__ import annotations

import signal

# A shell makes its background jobs ignore SIGINT, and every process that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

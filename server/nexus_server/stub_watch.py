"""Watches the stubs below a tritonserver: which died, which are stopped, which use CPU."""

import re
from collections import Counter

import psutil

from nexus_server.process import cpu_s, descendants, is_alive, status

# A process found stopped (SIGSTOP) in this many polls in a row counts as hung, 3 s at two polls a second; a shorter
# pause does not.
STOPPED_POLLS = 6
# Models without a stub run inside tritonserver itself, as with the C++ backends of the vendor's image.
SERVER = "tritonserver"
UNKNOWN = "an unknown model"


class StubWatch:
    """Remembers the stubs below a tritonserver by the names of their models.

    `failures` and `cpu_s` raise psutil.NoSuchProcess when the tritonserver itself is gone.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.stubs: dict[psutil.Process, str] = {}
        self._stopped: Counter[psutil.Process] = Counter()

    def refresh(self) -> None:
        """Add new stubs, and drop the ones tritonserver has reaped, as it does when a model cannot load."""
        # Read names while the stub is alive: a zombie has no command line.
        known = {stub: name for stub, name in self.stubs.items() if name != UNKNOWN}
        seen = {stub: known.get(stub) or _model(stub) for stub in descendants(self._pid)}
        self.stubs = {stub: name for stub, name in {**known, **seen}.items() if status(stub)}

    def failures(self) -> list[str]:
        """One phrase for each process that is dead or stays stopped; empty if all run."""
        dead = [f"the process of {name} died" for stub, name in self.stubs.items() if not is_alive(stub)]
        stopped = [
            f"the process of {name} is stopped"
            for process, name in {psutil.Process(self._pid): SERVER, **self.stubs}.items()
            if self._stays_stopped(process)
        ]
        return dead or stopped

    def is_stopped(self, model: str) -> bool:
        """Whether a stub of `model` is stopped (SIGSTOP) at this moment, however briefly."""
        return any(
            status(stub) == psutil.STATUS_STOPPED for stub, name in self.stubs.items() if name == model
        )

    def cpu_s(self, models: set[str]) -> float:
        """Seconds of CPU that the processes of `models` have used so far."""
        processes = [stub for stub, name in self.stubs.items() if name in models]
        if models - set(self.stubs.values()):
            processes.append(psutil.Process(self._pid))
        return sum(map(cpu_s, processes))

    def _stays_stopped(self, process: psutil.Process) -> bool:
        if status(process) == psutil.STATUS_STOPPED:
            self._stopped[process] += 1
        else:
            del self._stopped[process]
        return self._stopped[process] >= STOPPED_POLLS


def _model(stub: psutil.Process) -> str:
    """The model of a stub, whose first argument is a file in its version folder: .../models/NAME/1/model.py."""
    try:
        found = re.search(r"([^/]+)/1/[^/]+$", " ".join(stub.cmdline()[1:2]))
    except psutil.NoSuchProcess:  # it died a moment ago; the next poll finds that
        return UNKNOWN
    return found[1] if found else UNKNOWN

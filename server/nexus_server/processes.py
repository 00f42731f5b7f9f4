"""What the kernel knows of a tritonserver and the stubs below it: who died, who is stopped, who works."""

from __future__ import annotations

import re
from collections import Counter

import psutil

# A process that SIGSTOP holds for so many looks (3 s at two looks a second) is taken for hung; a pause for less is not.
STOPPED_LOOKS = 6
# Models that no stub serves run inside tritonserver itself, as with the C++ backends of the vendor image.
SERVER = "tritonserver"
UNKNOWN = "an unknown model"


class StubWatch:
    """Remembers the processes below a tritonserver by the names of their models.

    `failures` and `cpu_s` raise psutil.NoSuchProcess when the tritonserver itself is gone.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.stubs: dict[psutil.Process, str] = {}
        self._stopped: Counter[psutil.Process] = Counter()

    def refresh(self) -> None:
        """Look for more stubs, and forget those that tritonserver has buried, as it does when a model cannot load."""
        # A name is read while the stub lives: the dead have no command line.
        known = {stub: name for stub, name in self.stubs.items() if name != UNKNOWN}
        seen = {stub: known.get(stub) or _model(stub) for stub in below(self._pid)}
        self.stubs = {stub: name for stub, name in {**known, **seen}.items() if _status(stub)}

    def failures(self) -> list[str]:
        """One phrase for each process that is dead or stays stopped; empty when all is well."""
        dead = [f"the process of {name} died" for stub, name in self.stubs.items() if not is_alive(stub)]
        stopped = [
            f"the process of {name} is stopped"
            for process, name in {psutil.Process(self._pid): SERVER, **self.stubs}.items()
            if self._stays_stopped(process)
        ]
        return dead or stopped

    def is_stopped(self, model: str) -> bool:
        """Whether SIGSTOP holds a process of `model` now, be it for a moment."""
        return any(
            _status(stub) == psutil.STATUS_STOPPED for stub, name in self.stubs.items() if name == model
        )

    def cpu_s(self, models: set[str]) -> float:
        """Seconds of CPU that the processes of `models` have used so far."""
        served_by = [stub for stub, name in self.stubs.items() if name in models]
        if models - set(self.stubs.values()):
            served_by.append(psutil.Process(self._pid))
        return sum(_cpu_s(process) for process in served_by)

    def _stays_stopped(self, process: psutil.Process) -> bool:
        if _status(process) == psutil.STATUS_STOPPED:
            self._stopped[process] += 1
        else:
            del self._stopped[process]
        return self._stopped[process] >= STOPPED_LOOKS


def below(pid: int) -> list[psutil.Process]:
    """The processes below `pid`; none when it is gone."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _model(stub: psutil.Process) -> str:
    """The model of a stub, whose first argument is a file of its version folder: .../models/NAME/1/model.py."""
    try:
        found = re.search(r"([^/]+)/1/[^/]+$", " ".join(stub.cmdline()[1:2]))
    except psutil.NoSuchProcess:  # dead already, as the next look finds
        return UNKNOWN
    return found[1] if found else UNKNOWN


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a process that has ended but was not yet buried by its parent does not."""
    return _status(process) not in (None, psutil.STATUS_ZOMBIE)


def _status(process: psutil.Process) -> str | None:
    """What the kernel says of `process`; None when it is gone."""
    try:
        return str(process.status()) if process.is_running() else None
    except psutil.NoSuchProcess:
        return None


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        return float(times.user + times.system)
    except psutil.NoSuchProcess:
        return 0.0

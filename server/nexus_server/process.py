"""What the kernel knows of one process; a process that is gone raises nothing."""

import psutil


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below `pid`; empty when it is gone."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def status(process: psutil.Process) -> str | None:
    """The kernel's status of `process`, one of psutil.STATUS_*; None when it is gone."""
    try:
        return str(process.status()) if process.is_running() else None
    except psutil.NoSuchProcess:
        return None


def is_alive(process: psutil.Process) -> bool:
    """Whether `process` runs; a zombie, ended but not yet reaped by its parent, does not."""
    return status(process) not in (None, psutil.STATUS_ZOMBIE)


def cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU that `process` has used so far; 0 when it is gone."""
    try:
        times = process.cpu_times()
        return float(times.user + times.system)
    except psutil.NoSuchProcess:
        return 0.0

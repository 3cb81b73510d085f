"""What Linux says of processes: CPU, memory, cores. (psutil would be one more dependency for three files of /proc.)"""

import os
import resource
from pathlib import Path

SERVER_CPU, OTHERS_CPU = 0, 1
"""The server under test has a core of its own; the model, PostgreSQL and the load share the other."""

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
"""What CPU time is told in: 10 ms."""


def cpu_ms(pid: int) -> float:
    """User and system time of a process, its living children, and those that it has waited for."""
    mine, total = str(pid), 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(entry)) and mine in {entry.name, stat[PARENT]}:
            total += sum(int(ticks) for ticks in stat[TIMES])
    return TICK_MS * total


PARENT, TIMES = 1, slice(11, 15)
"""Fields of /proc/PID/stat behind the name; the times are utime, stime, and the two of children that were waited for."""


def _stat(process: Path) -> list[str]:
    """Nothing of one that has ended meanwhile: its time is in its parent's then."""
    try:
        return (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def memory_bytes(pid: int) -> int:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pin(pid: int, cpu: int) -> None:
    """Keeps a process (0: this one), its threads and what it starts later to one core, where there is more than one."""
    if (os.cpu_count() or 1) > 1:
        for thread in Path(f"/proc/{pid or 'self'}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cpu})


def allow_files() -> None:
    """2,000 streams are 4,000 connections here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

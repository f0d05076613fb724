"""Memory limits that a container, Slurm or systemd puts on this process, from cgroup v1 and v2.

Every level from the group of this process up to the root counts, as far as it can be seen: inside a container the
levels above it are hidden. Not covered: limits on swap, and ``memory.high``, which slows a process but never kills it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 2**60
"""cgroup v1 writes "no limit" as a number of about 2**63."""


@dataclass(frozen=True)
class CgroupMemory:
    """One limit and what is used of it, in bytes."""

    limit: int
    used: int
    """Without file cache that the kernel would give back first."""


@dataclass(frozen=True)
class _Names:
    limit: str
    usage: str
    cache: str


_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Names("memory.max", "memory.current", "inactive_file")


def memory_limits(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> list[CgroupMemory]:
    """Return every memory limit on this process, empty where there is none or no cgroup.

    Parameters
    ----------
    root : Path
        Where cgroups are mounted.
    membership : Path
        The file that names the groups of this process.
    """
    found = []
    for folder, names in _folders(root, membership):
        limit = _number(folder / names.limit)
        if limit is not None and limit < _UNLIMITED:
            used = (_number(folder / names.usage) or 0) - _stat(folder / "memory.stat", names.cache)
            found.append(CgroupMemory(limit, max(0, used)))
    return found


def _folders(root: Path, membership: Path) -> Iterator[tuple[Path, _Names]]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, names = root, _V2
        elif "memory" in controllers.split(","):
            top, names = root / "memory", _V1
        else:
            continue
        folder = top / group.lstrip("/")
        yield folder, names
        while folder != top:
            folder = folder.parent
            yield folder, names


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _stat(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), 0)

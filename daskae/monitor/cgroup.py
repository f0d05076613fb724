"""Limits on memory and processors that a container, Slurm or systemd puts on this process, from cgroup v1 and v2.

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


def cpu_limit(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many processors' time this process is granted, None where nothing bounds it.

    Parameters
    ----------
    root : Path
        Where cgroups are mounted.
    membership : Path
        The file that names the groups of this process.
    """
    shares = []
    for folder, is_v2 in _levels(root, membership, "cpu"):
        quota, period = _quota_v2(folder) if is_v2 else _quota_v1(folder)
        if quota is not None and quota > 0 and period:
            shares.append(quota / period)
    return min(shares, default=None)


def _quota_v1(folder: Path) -> tuple[int | None, int | None]:
    return _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")


def _quota_v2(folder: Path) -> tuple[int | None, int | None]:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):  # also "max"
        return None, None


def _folders(root: Path, membership: Path) -> Iterator[tuple[Path, _Names]]:
    for folder, is_v2 in _levels(root, membership, "memory"):
        yield folder, _V2 if is_v2 else _V1


def _levels(root: Path, membership: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of this process's groups for a controller, up to the root, and whether they are of v2."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers != "" and controller not in controllers.split(","):
            continue
        top = root if controllers == "" else root / controller
        folder = top / group.lstrip("/")
        yield folder, controllers == ""
        while folder != top:
            folder = folder.parent
            yield folder, controllers == ""


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

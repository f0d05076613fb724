"""How the scheduler is started in this process, and what its workers' jobs look like."""

import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed.security import Security

from daskae.allocators import ALLOCATOR_ENVIRONMENT
from daskae.config import ClusterSettings
from daskae.engine.base import JOB_SHARE, Emit, Needs
from daskae.engine.job_keys import KeyFolder
from daskae.engine.started import THREAD_VARIABLES, Started
from daskae.errors import SettingsError, WorkersUnavailableError
from daskae.events import Warned
from daskae.units import parse_seconds

DEATH_TIMEOUT = 60
"""Seconds after which a worker without a scheduler ends, so that a killed driver leaves no jobs."""

_NOT_NOW = (
    "Unable to contact", "Socket timed out", "Zero Bytes", "temporarily unable", "inactive or drain",
)  # fmt: skip
"""What Slurm says where the settings are not to blame."""
_NONE_FITS = "node configuration is not available"
"""What it says of nodes that are too small, and of those that are down or drained for a while."""
_WORKING, _MARKS = ("idle", "mixed", "allocated", "completing", "planned", "reserved"), "*~#!%$@^-+"
"""States of nodes that run jobs, and what sinfo may write behind a state."""


def start_slurm(settings: ClusterSettings, workers: int | None, needs: Needs, emit: Emit) -> Started:
    """Start a scheduler here; jobs are submitted when it is scaled.

    Raises
    ------
    SettingsError
        If dask-jobqueue or Slurm's commands are missing, or Slurm would not take such a job.
    WorkersUnavailableError
        If it takes none at the moment.
    """
    try:
        with _interrupts_kept():
            from daskae.engine.slurm.jobs import JobCluster
    except ImportError as error:
        raise SettingsError(
            "a package is missing", "--cluster slurm", "no dask-jobqueue", hint="pip install 'daskae[slurm]'"
        ) from error
    if shutil.which("sbatch") is None:
        raise SettingsError(
            "Slurm's commands are missing", "--cluster slurm", "no sbatch on PATH",
            hint="run on a login node or in a batch job of the cluster",
        )  # fmt: skip
    given = settings.slurm
    jobs = given.jobs if workers is None else -(-workers // given.processes)
    if settings.adaptive is not None:
        jobs = -(-settings.adaptive.minimum // given.processes)

    def refused(why: str) -> None:
        emit(Warned(f"Slurm did not take a worker's job, another try in {settings.replace_after:g} s: {why}"))

    options = job_options(settings, needs.work_dir or Path.cwd())
    keys = KeyFolder(Path(options["shared_temp_directory"])) if given.tls else None
    if keys is not None:
        options["shared_temp_directory"] = str(keys.path)
    try:
        cluster = JobCluster(refused=refused, patience=settings.replace_after, keys=keys, **options)
    except BaseException:
        if keys is not None:
            keys.close()
        raise
    # It calls sbatch and scancel there: cut short they would leave a job that nobody knows of.
    cluster.loop.add_callback(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        _require_acceptable(cluster.job_script(), settings.slurm.queue)
    except BaseException:
        cluster.close()
        raise
    return Started(cluster, jobs * given.processes, cluster.scale)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Leave Ctrl-C to whom it belongs: dask-jobqueue, when imported, makes an exit with code 0 of it.

    In another thread than the main one Python would refuse, and the import fail.
    """
    here, set_handler = threading.get_ident(), signal.signal

    def others_only(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if threading.get_ident() == here else set_handler(number, handler)

    signal.signal = others_only  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = set_handler


def job_options(settings: ClusterSettings, work_dir: Path) -> dict[str, Any]:
    """Return the arguments for dask-jobqueue."""
    given = settings.slurm
    shared = given.shared_directory or work_dir / "slurm"
    logs = given.log_directory or work_dir / "slurm"
    for folder in (shared, logs):
        _make(folder)
    environment = {**dict.fromkeys(THREAD_VARIABLES, "1"), **ALLOCATOR_ENVIRONMENT}
    environment |= {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
    options: dict[str, Any] = {
        "job_name": "daskae-worker",
        "cores": given.processes,
        "processes": given.processes,
        "memory": f"{int(given.memory * JOB_SHARE)}B",
        "job_mem": f"{given.memory >> 20}M",
        "walltime": given.walltime,
        "queue": given.queue,
        "account": given.account,
        "job_extra_directives": list(given.job_extra),
        "job_script_prologue": [f"export {key}={value}" for key, value in environment.items()] + given.prologue,
        "worker_extra_args": ["--dashboard-address", "127.0.0.1:0", *_lifetime(settings), *given.worker_extra],
        "python": given.python,
        "local_directory": given.local_directory,
        "log_directory": str(logs),
        "death_timeout": DEATH_TIMEOUT,
        "interface": given.interface,
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
    }
    if given.tls:
        options |= {
            "protocol": "tls://",
            "security": Security.temporary(),
            "shared_temp_directory": str(shared),
        }
    elif given.interface is None:
        options["interface"] = "lo"
    return options


def _lifetime(settings: ClusterSettings) -> list[str]:
    """Let workers leave in good time before Slurm ends their jobs, not all at once; others take their place."""
    walltime = parse_seconds(settings.slurm.walltime)
    margin = min(settings.stop_before_end, walltime / 4)
    return ["--lifetime", f"{walltime - margin:.0f}s", "--lifetime-stagger", f"{margin / 4:.0f}s"]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            "a folder for Slurm cannot be created", str(folder), error.strerror or str(error),
            hint="set --work-dir, or cluster.slurm.log_directory and shared_directory",
        ) from error  # fmt: skip


def _require_acceptable(script: str, queue: str | None) -> None:
    """Ask Slurm whether it would take the job; without this a refusal would show only as a worker that never comes."""
    done = _ask("sbatch", "--test-only", given=script)
    if done.returncode == 0:
        return
    said = " ".join(line for line in done.stderr.splitlines() if line.strip())[-300:]
    if any(text in said for text in _NOT_NOW):
        raise WorkersUnavailableError(
            "Slurm takes no jobs at the moment", "cluster.slurm", said,
            hint="sinfo shows the queues; run the same command again later",
        )  # fmt: skip
    if _NONE_FITS not in said or _is_any_node_up(queue):
        raise SettingsError(
            "Slurm does not take the workers' jobs", "cluster.slurm", said,
            "a queue, account, memory and walltime that there are", "sinfo shows the queues and their limits",
        )  # fmt: skip


def _is_any_node_up(queue: str | None) -> bool:
    """Whether a queue has nodes that work just now: jobs for one that has none are taken, and wait."""
    where = [f"--partition={queue}"] if queue else []
    done = _ask("sinfo", "--noheader", "--format=%a %T", *where)
    states = {tuple(line.rstrip(_MARKS).split()) for line in done.stdout.splitlines()}
    return done.returncode != 0 or not states.isdisjoint(("up", state) for state in _WORKING)


def _ask(*command: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)

"""Workers in jobs of their own, submitted to Slurm by dask-jobqueue; the scheduler is in this process."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from distributed.security import Security

from daskae.allocators import ALLOCATOR_ENVIRONMENT
from daskae.config import ClusterSettings
from daskae.engine.base import JOB_SHARE, Needs
from daskae.engine.started import THREAD_VARIABLES, Started
from daskae.errors import SettingsError
from daskae.units import parse_seconds

DEATH_TIMEOUT = 60
"""Seconds after which a worker without a scheduler ends, so that a killed driver leaves no jobs."""


def start_slurm(settings: ClusterSettings, workers: int | None, needs: Needs) -> Started:
    """Start a scheduler here; jobs are submitted when it is scaled.

    Raises
    ------
    SettingsError
        If dask-jobqueue or Slurm's commands are missing, or Slurm would not take such a job.
    """
    try:
        from dask_jobqueue import SLURMCluster
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
    cluster = SLURMCluster(**job_options(settings, needs.work_dir or Path.cwd()))
    try:
        _require_acceptable(cluster.job_script())
    except SettingsError:
        cluster.close()
        raise
    return Started(cluster, jobs * given.processes, cluster.scale)


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


def _require_acceptable(script: str) -> None:
    """Ask Slurm whether it would take the job; without this a refusal would show only as a worker that never comes."""
    done = subprocess.run(
        ["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise SettingsError(
            "Slurm does not take the workers' jobs", "cluster.slurm", " ".join(lines)[-300:],
            "a queue, account, memory and walltime that there are", "sinfo shows the queues and their limits",
        )  # fmt: skip

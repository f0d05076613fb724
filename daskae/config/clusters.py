"""``[cluster]`` and its tables: how each kind of cluster is started, reached and watched."""

import sys
from pathlib import Path

from pydantic import Field, model_validator

from daskae.config.sections import Bytes, Seconds, Section


class TlsSettings(Section):
    """``[cluster.tls]``: certificates for a ``tls://`` address; PEM files."""

    ca_file: Path | None = None
    """Of the authority that signed the scheduler's and the workers' certificates."""
    cert_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _all_or_none(self) -> "TlsSettings":
        given = (self.ca_file, self.cert_file, self.key_file)
        if any(given) and not all(given):
            raise ValueError("ca_file, cert_file and key_file together")
        return self


class AdaptiveSettings(Section):
    """``[cluster] adaptive``: let the number of workers follow the work."""

    minimum: int = Field(1, ge=1)
    maximum: int = Field(ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> "AdaptiveSettings":
        if self.minimum > self.maximum:
            raise ValueError("minimum is at most maximum")
        return self


class SlurmSettings(Section):
    """``[cluster.slurm]``: the jobs that dask-jobqueue submits, each one or a few worker processes."""

    jobs: int = Field(4, ge=1)
    """Jobs, unless ``--workers`` says how many worker processes there are to be."""
    processes: int = Field(1, ge=1)
    """Worker processes of a job; each runs one task at a time."""
    memory: Bytes = 4 << 30
    """Of one job, shared by its processes."""
    walltime: str = "01:00:00"
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    """Network interface that scheduler and workers use, such as ``ib0``; Dask's choice unless set."""
    job_extra: list[str] = Field([])
    """Further ``#SBATCH`` options, such as ``--constraint=skylake``."""
    prologue: list[str] = Field([])
    """Shell lines before the worker starts, such as ``module load python``."""
    worker_extra: list[str] = Field([])
    """Further options of ``dask worker``."""
    python: str = sys.executable
    local_directory: str = "/tmp"
    """Scratch of a worker on its node."""
    log_directory: Path | None = None
    """Where jobs write their output; ``slurm/`` in the work directory unless set."""
    shared_directory: Path | None = None
    """Where temporary certificates are kept, seen by all nodes; ``slurm/`` in the work directory unless set."""
    tls: bool = True
    """Encrypt with certificates that live as long as the run; without, the scheduler listens on loopback only, unless
    an interface is named."""


class KubernetesSettings(Section):
    """``[cluster.kubernetes]``: a DaskCluster of the Dask operator."""

    name: str = "daskae"
    namespace: str = "default"
    create: bool = True
    """Create it and delete it after the run; else connect to one that is there."""
    image: str = "daskae:latest"
    """Must hold the same versions as the driver."""
    workers: int = Field(2, ge=1)
    """Worker pods, unless ``--workers`` says how many."""
    memory: Bytes = 4 << 30
    """Of one pod."""
    cpu: float = Field(1, gt=0)
    env: dict[str, str] = Field({})
    volume_claim: str | None = None
    """Claim of a volume that the pods and the driver share, for the work directory and the input."""
    mount_path: str = "/data"
    """Where the claim is mounted; the same path as on the driver."""
    port_forward: bool = False
    """Reach the scheduler by port forwarding, for a driver outside of the Kubernetes cluster."""


class ClusterSettings(Section):
    """``[cluster]``: how the engine is started and watched."""

    inline_below: Bytes = 1 << 26
    """Inputs smaller than this run in this process, on all cores, where no cluster was asked for."""
    processes_below: Bytes = 1 << 31
    """Inputs smaller than this, but no smaller than that, run in worker processes without a scheduler."""
    worker_ttl: str = "60s"
    """Silence after which a worker is taken for lost, 5 s at least. A scheduler that the run starts looks ten times in
    it; one elsewhere looks once, so it may be twice as long. Where a nanny is silent, too, it is half a minute more."""
    start_timeout: str = "120s"
    """How long to wait for the scheduler, and for the first worker."""
    retries: int = Field(3, ge=0)
    """Deaths of workers that a task survives; the last two times it is tried while nothing else runs."""
    replace_after: Seconds = 60.0
    """How long a lost worker may be away before another one is started in its place."""
    adaptive: AdaptiveSettings | None = None
    heartbeat: Seconds = Field(25.0, gt=0)
    """How long nothing may end before a line in the log says what is being waited for."""
    dashboard: bool = False
    """Serve Dask's dashboard, with a page about the run, on the loopback address only."""
    time_limit: Seconds | None = None
    """How long this process may run; under Slurm the end of the job is found out."""
    stop_before_end: Seconds = 300.0
    """How long before that end no more work is begun."""
    tls: TlsSettings = TlsSettings()
    slurm: SlurmSettings = SlurmSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

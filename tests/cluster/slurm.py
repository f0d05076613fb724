"""A real Slurm on the loopback address: one controller and three nodes, each a daemon of its own on this machine."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import ROOT

NODES = ("node1", "node2", "node3")
_DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")
_CONF = """
ClusterName=daskae
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPort={port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=5
MinJobAge=300
InactiveLimit=0
SlurmctldTimeout=60
SlurmdTimeout=60
{nodes}
PartitionName=batch Nodes=node[1-3] Default=YES MaxTime=INFINITE State=UP
"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket=4 ThreadsPerCore=1 RealMemory=6000 State=UNKNOWN"
)


def why_not() -> str:
    """Say why there can be no Slurm here, empty if there can."""
    missing = [name for name in _DAEMONS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        return f"no {missing[0]}; apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons want root"


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait until a condition holds; return what it returned."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]


class Slurm:
    """Context manager that starts the daemons, and ends them with all jobs.

    Parameters
    ----------
    folder : Path
        For configuration, state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._munged = 0
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
        }  # fmt: skip

    def __enter__(self) -> Self:
        host = socket.gethostname().partition(".")[0]
        port, *ports = _free_ports(1 + len(NODES))
        nodes = "\n".join(_NODE.format(name=name, host=host, port=p) for name, p in zip(NODES, ports, strict=True))
        (self._folder / "slurm.conf").write_text(
            _CONF.format(host=host, folder=self._folder, port=port, nodes=nodes).lstrip()
        )
        for name in ("state", *NODES):
            (self._folder / name).mkdir()
        try:
            self._start_munge()
            self._daemon("slurmctld", "-D")
            for name in NODES:
                self._daemon("slurmd", "-D", "-N", name)
            until(lambda: len(self.call("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()) == len(NODES), "nodes")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.clear()
        finally:
            self._stop()

    def _start_munge(self) -> None:
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
            return  # it runs already
        subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "0755", "/run/munge"], check=True)
        subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
        self._munged = int(until(lambda: _read("/run/munge/munged.pid"), "munge"))

    def _daemon(self, *command: str) -> None:
        with (self._folder / "daemons.log").open("ab") as log:
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def _stop(self) -> None:
        for process in reversed(self._daemons):
            process.terminate()
        end = time.monotonic() + 5
        for process in reversed(self._daemons):
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()  # it waits for something that has no meaning any more
                process.wait()
        if self._munged:
            subprocess.run(["kill", str(self._munged)], check=False)

    def call(self, *command: str, cwd: Path | None = None, **more: str) -> str:
        """Run one of Slurm's commands and return what it printed."""
        done = subprocess.run(
            command, env={**self.environment, **more}, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, *arguments: str, cwd: Path, **more: str) -> str:
        """Submit a batch script and return the job's number."""
        return self.call("sbatch", "--parsable", *arguments, cwd=cwd, **more)

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        text = self.call("scontrol", "--oneliner", "show", "job", number)
        return dict(word.partition("=")[::2] for word in text.split())

    def wait(self, number: str, seconds: float = 120) -> str:
        """Wait for the end of a job and return its state."""
        live = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
        until(lambda: self.job(number)["JobState"] not in live, f"the end of job {number}", seconds)
        return self.job(number)["JobState"]

    def running(self, name: str) -> list[str]:
        """Numbers of running jobs of a name."""
        return self.call("squeue", "-h", "-t", "running", "-n", name, "-o", "%i").split()

    def clear(self) -> None:
        """End all jobs, and bring all nodes back."""
        self.call("scancel", "--user=root")
        until(lambda: not self.call("squeue", "-h"), "an empty queue")
        until(self._all_idle, "idle nodes", 90)

    def _all_idle(self) -> bool:
        states = {name: self.call("sinfo", "-h", "-n", name, "-o", "%T") for name in NODES}
        for name, state in states.items():
            if "down" in state or "drain" in state:
                self.call("scontrol", "update", f"nodename={name}", "state=resume")
        return set(states.values()) == {"idle"}


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""

"""A real Slurm on the loopback address: one controller and three nodes, each a daemon of its own on this machine."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.fault_log import fault
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
MessageTimeout=30
TCPTimeout=30
BatchStartTimeout=120
UnkillableStepTimeout=180
SlurmctldTimeout=300
SlurmdTimeout=300
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


def until(condition: Callable[[], Any], what: str, seconds: float = 180, seen: Callable[[], str] = str) -> Any:
    """Wait until a condition holds; return what it returned. What was seen instead is part of the error."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}\n{seen()}"
        time.sleep(0.1)
    return found


@contextmanager
def munge() -> Iterator[None]:
    """Have the daemon that tells Slurm's daemons who speaks to them."""
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
        yield  # it runs already
        return
    subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "0755", "/run/munge"], check=True)
    subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
    number = until(lambda: _read("/run/munge/munged.pid"), "munge")
    try:
        yield
    finally:
        subprocess.run(["kill", number], check=False)


def _free_ports(count: int) -> list[int]:
    # Below those that the kernel gives to anyone: a daemon takes its port only later.
    ports: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(range(20_000, 30_000), 1000):
            with suppress(OSError):
                stack.enter_context(socket.socket()).bind(("", port))
                ports.append(port)
            if len(ports) == count:
                break
    return ports


class Slurm:
    """Context manager that starts the daemons, and ends them with all jobs. It wants `munge`.

    Parameters
    ----------
    folder : Path
        For configuration, state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
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
            self._daemon("slurmctld", "-D")
            for name in NODES:
                self._daemon("slurmd", "-D", "-N", name)
            idle = ("sinfo", "-h", "-N", "-t", "idle", "-o", "%N")
            self.until(lambda: self._ask(*idle).split() == list(NODES), "idle nodes")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Jobs that can end in order do. The others say nothing about the test, so nothing here can fail.
        self._ask("scancel", "--user=root")
        with suppress(AssertionError):
            until(lambda: not self._ask("squeue", "-h"), "an empty queue", 10)
        self._stop()

    def _daemon(self, *command: str) -> None:
        with (self._folder / "daemons.log").open("ab") as log:
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def _stop(self) -> None:
        # Daemons, and what has left its job. Who starts while we look is seen the next time.
        end = time.monotonic() + 30
        while (left := [process for process in psutil.process_iter() if self._is_ours(process)]) and (
            time.monotonic() < end
        ):
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, 1)
        for daemon in self._daemons:
            daemon.poll()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.name() == "slurmstepd":  # its title stands where its environment was
                return any(file.path.startswith(f"{self._folder}/") for file in process.open_files())
            return process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]
        except (psutil.Error, OSError):
            return False

    def _ask(self, *command: str) -> str:
        """Run one of Slurm's commands and return all it said, whatever becomes of it."""
        try:
            done = subprocess.run(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=15,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "no answer"
        return done.stdout.strip()

    def seen(self) -> str:
        """What there is to know of nodes and jobs, for the message of a test that fails."""
        ended = [f"{process.args!r} ended with {code}" for process in self._daemons if (code := process.poll())]
        nodes = self._ask("sinfo", "-N", "-o", "%N %T %C %E")
        jobs = self._ask("squeue", "--states=all", "-o", "%i %j %T %N %r")
        logs = [
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self._folder.glob("*.log"))
        ]
        return "\n".join([*ended, nodes, jobs, *logs])

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
        """Wait until a condition holds; return what it returned."""
        return until(condition, what, seconds, self.seen)

    def call(self, *command: str, cwd: Path | None = None, **more: str) -> str:
        """Run one of Slurm's commands and return what it printed."""
        done = subprocess.run(
            command, env={**self.environment, **more}, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        if command[0] == "scancel":
            fault("ended job", "scancel", "job")
        for state in {"state=down", "state=drain"}.intersection(command):
            fault("lost node", state, "node")
        return done.stdout.strip()

    def submit(self, *arguments: str, cwd: Path, **more: str) -> str:
        """Submit a batch script and return the job's number."""
        return self.call("sbatch", "--parsable", *arguments, cwd=cwd, **more)

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        text = self.call("scontrol", "--oneliner", "show", "job", number)
        return dict(word.partition("=")[::2] for word in text.split())

    def wait(self, number: str) -> str:
        """Wait for the end of a job and return its state."""
        live = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
        self.until(lambda: self.job(number)["JobState"] not in live, f"the end of job {number}", 300)
        return self.job(number)["JobState"]

    def running(self, name: str) -> list[str]:
        """Numbers of running jobs of a name."""
        return self.call("squeue", "-h", "-t", "running", "-n", name, "-o", "%i").split()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""

"""What a driver under Slurm leaves behind, however it ends, and who can talk to it while it runs."""

import shutil
import signal
import socket
import ssl
from collections.abc import Iterable
from contextlib import ExitStack, suppress

import psutil
import pyarrow as pa
import pytest

from daskae.engine.slurm import DEATH_TIMEOUT
from tests.cluster.jobs import SMALL, Job, submit, worker_processes
from tests.cluster.slurm import NODES, Slurm
from tests.fault_log import strike
from tests.support import assert_same_tables, descendants

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]
WORKER = "daskae-worker"
# Submits, and takes a while to say so, as a busy Slurm does.
SLOW_SBATCH = """#!/bin/bash
said=$({sbatch} "$@") || exit
[ "$1" = --test-only ] || sleep 3
echo "$said"
"""
LOOPBACK = ("127.0.0.1", "::1")


def queued(slurm: Slurm) -> list[str]:
    """Numbers of workers' jobs, running or not."""
    return slurm.call("squeue", "-h", "-n", WORKER, "-o", "%i").split()


def nothing_left(slurm: Slurm, seconds: float) -> None:
    """Wait until no worker's job is in the queue and none of its processes is there."""
    slurm.until(lambda: not queued(slurm), "a queue without workers", seconds)
    slurm.until(lambda: not worker_processes(slurm), "the end of all processes of jobs", 60)


@pytest.mark.parametrize(
    ("number", "code", "to"), [(signal.SIGINT, 130, "all"), (signal.SIGTERM, 143, "driver")], ids=["ctrl-c", "term"]
)
def test_one_signal_ends_the_jobs_in_order(
    number: signal.Signals, code: int, to: str, slurm: Slurm, job: Job, calm: dict[str, pa.Table]
) -> None:
    with job.driver(slurm, "--config", job.config()) as driver:
        job.wait_for_parts(1, slurm)
        slurm.until(lambda: len(slurm.running(WORKER)) == 2, "two workers")
        assert worker_processes(slurm)
        if to == "all":  # as a terminal does
            strike(driver.pid, number, "after the first part", "driver (slurm)", group=True)
        else:
            strike(driver.pid, number, "after the first part", "driver (slurm)")
        _, error = driver.communicate(timeout=120)
    assert driver.returncode == code, error
    assert "run the same command again to go on" in error
    assert "Traceback" not in error
    nothing_left(slurm, 60)
    assert job.keys() == []
    assert job.parts() > 0
    assert_same_tables(job.go_on(), calm)


def test_ctrl_c_while_the_jobs_are_being_submitted(slurm: Slurm, job: Job) -> None:
    slurm.submit(f"--nodes={len(NODES)}", "--exclusive", "--wrap=sleep 600", cwd=job.folder)  # all nodes are taken
    (job.folder / "sbatch").write_text(SLOW_SBATCH.format(sbatch=shutil.which("sbatch")))
    (job.folder / "sbatch").chmod(0o755)
    path = f"{job.folder}:{slurm.environment['PATH']}"
    with job.driver(slurm, "--config", job.config(slurm={"jobs": 3}), PATH=path) as driver:
        slurm.until(lambda: queued(slurm), "the first job in the queue")
        strike(driver.pid, signal.SIGINT, "while jobs are submitted", "driver (slurm)", group=True)
        _, error = driver.communicate(timeout=120)
    assert driver.returncode == 130, error
    assert "run the same command again to go on" in error
    nothing_left(slurm, 60)


def test_jobs_of_a_killed_driver_end_by_themselves(slurm: Slurm, job: Job, calm: dict[str, pa.Table]) -> None:
    # Three nodes, each with memory for one of these: the fourth waits, and begins when there is no driver any more.
    jobs = {"jobs": 4, "memory": "4GB"}
    with job.driver(slurm, "--config", job.config(slurm=jobs), SECONDS_A_PART="1") as driver:
        job.wait_for_parts(1, slurm)
        slurm.until(lambda: len(slurm.running(WORKER)) == 3, "three workers")
        first = slurm.running(WORKER)
        (waiting,) = set(queued(slurm)) - set(first)
        assert job.keys()
        strike(driver.pid, signal.SIGKILL, "after the first part", "driver (slurm)")
        driver.communicate()
    slurm.until(lambda: not set(first) & set(slurm.running(WORKER)), "the end of running jobs", DEATH_TIMEOUT + 30)
    slurm.until(lambda: slurm.job(waiting)["JobState"] != "PENDING", "the last job to begin", 60)
    nothing_left(slurm, DEATH_TIMEOUT + 60)
    assert job.parts() > 0
    assert job.keys(), "nobody was there to remove them"
    assert_same_tables(job.go_on(), calm)
    assert job.keys() == []


def test_a_second_signal_ends_the_driver_at_once(slurm: Slurm, job: Job) -> None:
    with job.driver(slurm, "--config", job.config(), SECONDS_A_PART="200") as driver:
        slurm.until(lambda: len(slurm.running(WORKER)) == 2, "two workers")
        strike(driver.pid, signal.SIGTERM, "in the middle of a task", "driver (slurm)")
        strike(driver.pid, signal.SIGINT, "right after the first signal", "driver (slurm)")
        _, error = driver.communicate(timeout=150)  # the tasks would need longer
    assert driver.returncode in (130, 143), error
    assert "run the same command again to go on" in error
    nothing_left(slurm, DEATH_TIMEOUT + 60)


@pytest.mark.parametrize("script", ["driver.sbatch", "job.sbatch"])
def test_scancel_of_a_batch_job_ends_it_in_order(
    script: str, slurm: Slurm, job: Job, calm: dict[str, pa.Table]
) -> None:
    if script == "driver.sbatch":
        options = ("--mem=1500M", "--time=00:10:00", "--output=said.out")
        number = submit(slurm, job, script, "--config", job.config(), options=options)
    else:
        number = submit(slurm, job, script, options=(*SMALL, "--output=said.out"))
    job.wait_for_parts(1, slurm)
    slurm.call("scancel", number)
    nothing_left(slurm, 60)
    slurm.until(lambda: not slurm.call("squeue", "-h"), "an empty queue", 60)
    assert slurm.job(number)["JobState"] == "CANCELLED"
    printed = (job.folder / "said.out").read_text()
    assert "interrupted; finished parts are kept, run the same command again to go on" in printed
    assert "Traceback" not in printed
    assert "queued again" not in printed
    assert_same_tables(job.go_on(), calm)


# --- who can talk to it


def listening(processes: Iterable[psutil.Process]) -> set[tuple[str, int]]:
    """Addresses that processes listen on."""
    found = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found |= {
                (item.laddr.ip, item.laddr.port)
                for item in process.net_connections("inet")
                if item.status == psutil.CONN_LISTEN
            }
    return found


def elsewhere(addresses: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those that another host could reach."""
    return {address for address in addresses if address[0] not in LOOPBACK}


def connected(address: tuple[str, int]) -> socket.socket:
    ip, port = address
    return socket.create_connection(("127.0.0.1" if ip in ("0.0.0.0", "::") else ip, port), timeout=30)


def refuses_plain_text(address: tuple[str, int]) -> bool:
    """Whether whoever speaks no TLS learns nothing; without it Dask says its version at once, a web server its name."""
    with connected(address) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(64))
            return connection.recv(64)[:1] in (b"", b"\x15")  # the end, or TLS's way to say so
        except ConnectionError:
            return True


def refuses_strangers(address: tuple[str, int]) -> bool:
    """Whether whoever has no certificate is sent away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with connected(address) as connection, context.wrap_socket(connection) as secured:
            return secured.recv(1) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def ports(slurm: Slurm, driver: int | None = None) -> set[tuple[str, int]]:
    """Wait until two workers have come, and return all ports: theirs, their nannies', the scheduler's, the driver's."""

    def found() -> set[tuple[str, int]] | None:
        others = [] if driver is None else [psutil.Process(driver), *descendants(driver)]
        everyone = [*others, *worker_processes(slurm)]
        servers = [process for process in everyone if listening([process])]
        return listening(everyone) if len(servers) >= 5 else None

    seen: set[tuple[str, int]] = slurm.until(found, "a scheduler, two workers and their nannies")
    return seen


@pytest.mark.parametrize(
    "settings", [{"tls": False, "interface": None}, {"tls": True, "interface": "lo"}], ids=["plain", "tls"]
)
def test_all_ports_are_on_loopback(settings: dict[str, object], slurm: Slurm, job: Job) -> None:
    with job.driver(slurm, "--config", job.config(slurm=settings), SECONDS_A_PART="200") as driver:
        assert elsewhere(ports(slurm, driver.pid)) == set()


@pytest.mark.parametrize("way", ["jobqueue", "job.sbatch"])
def test_ports_that_others_can_reach_speak_tls_only(way: str, slurm: Slurm, job: Job) -> None:
    with ExitStack() as stack:
        if way == "jobqueue":
            config = job.config(slurm={"interface": None})
            driver = stack.enter_context(job.driver(slurm, "--config", config, SECONDS_A_PART="200"))
            found = elsewhere(ports(slurm, driver.pid))
        else:
            submit(slurm, job, "job.sbatch", SECONDS_A_PART="200", INTERFACE="")
            found = elsewhere(ports(slurm))
        if not found:
            pytest.skip("this machine has the loopback address only")
        assert len(found) >= 5
        assert {address for address in found if not refuses_plain_text(address)} == set()
        assert {address for address in found if not refuses_strangers(address)} == set()

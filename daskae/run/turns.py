"""Whose turn it is: a run that a later one of the same command has overtaken publishes nothing.

A driver may be stopped for hours, with a laptop's lid or a virtual machine that is moved, and go on after somebody has
run the same command over newer input. So each run of a command takes the next number when it begins, and may publish
only while no later number has. Numbers, because clocks may be wrong; they are kept in the work directory, so two work
directories with one target are not covered: the target's own lock puts their publishes one after the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from daskae.durable import replacing
from daskae.errors import TargetBusyError
from daskae.faults import crash_point
from daskae.hashing import digest_texts
from daskae.load.lock import publisher_lock
from daskae.run.context import RunContext
from daskae.run.record import repeatable


@dataclass(frozen=True)
class Turn:
    """The place of one run among those of its command."""

    folder: Path
    key: str
    number: int
    target: str
    """Without a password."""
    timeout: float


def take_turn(context: RunContext) -> Turn:
    """Take the next number of this command: the same inputs, as they were named, into the same target.

    Raises
    ------
    TargetBusyError
        If the number cannot be had in time.
    """
    command = repeatable(context.settings)
    target, timeout = str(command["to"]), context.settings.load.timeout_seconds
    key = digest_texts(target, *sorted(map(str, command["inputs"])))[:24]
    folder = context.turns
    with publisher_lock(folder / f"{key}.taking", timeout, target):
        # Where one of the two files is lost or damaged, the other says how far it was.
        number = max(_read(folder / f"{key}.taken"), _read(folder / f"{key}.published")) + 1
        _write(folder / f"{key}.taken", number)
    crash_point("turn.taken")
    return Turn(folder, key, number, target, timeout)


@contextmanager
def publishing(turn: Turn) -> Iterator[None]:
    """Hold the command's right to publish while the block runs.

    Raises
    ------
    TargetBusyError
        If a later run has published or tried to, or an earlier one is publishing and does not end.
    """
    with publisher_lock(turn.folder / f"{turn.key}.publishing", turn.timeout, turn.target):
        newest = _read(turn.folder / f"{turn.key}.published")
        if newest > turn.number:
            raise TargetBusyError(
                "a later run of the same command has begun to publish, so this one does not", turn.target,
                f"run {turn.number} of this command, overtaken by run {newest}", "the latest run",
                "nothing needs to be done; the same command again takes the input as it is now",
            )  # fmt: skip
        _write(turn.folder / f"{turn.key}.published", turn.number)
        crash_point("turn.published")
        yield


def _read(path: Path) -> int:
    # A number that was lost with the disk it stood on begins anew; the target's own lock and ledger still hold.
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return 0


def _write(path: Path, number: int) -> None:
    with replacing(path, synced=True) as temporary:
        temporary.write_text(str(number))

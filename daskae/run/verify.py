"""A last look before the publish: nothing that the result was made from has changed behind the run's back."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from daskae.engine.base import cores
from daskae.errors import ExchangeError
from daskae.exchange import files_are_whole
from daskae.partition import ExchangeFile
from daskae.read.source import is_url, require_unchanged
from daskae.run.context import RunContext
from daskae.run.plan import Plan


def require_same_inputs(plan: Plan) -> None:
    """Check that the local files are those that were planned; others were looked at when they were read.

    Raises
    ------
    InputChangedError
    """
    known = {segment.path: segment for segment in plan.source.segments if segment.kind != "sql"}
    for path, segment in known.items():
        if not is_url(path):
            require_unchanged(path, segment.label, segment.identity)


def require_whole_outputs(context: RunContext) -> None:
    """Check size and checksum of every file between the stages.

    What was written long ago was checked before it was used, but a bit may have flipped since, and in what this run
    wrote itself. A file that is as it was written was so when it was read.

    Raises
    ------
    ExchangeError
        Naming a damaged file; the task that made it is to be run again.
    """

    def damaged(output: tuple[Path, tuple[ExchangeFile, ...]]) -> str:
        folder, files = output
        return next(
            (str(folder / file.name) for file in files if not files_are_whole(folder, [file], thorough=True)), ""
        )

    with ThreadPoolExecutor(cores()) as pool:
        for path in pool.map(damaged, context.outputs):
            if path:
                raise ExchangeError("an intermediate file has changed since it was written", path)

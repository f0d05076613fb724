"""Every exception daskae raises on purpose, drawn as one tree.

::

    DaskaeError                    exit 1
    ├── SettingsError              exit 2   the command line, a settings file, a rule or a metric is wrong
    ├── InputError                 exit 1   an input cannot be found, opened or read
    │   ├── InputChangedError               an input changed while it was read
    │   └── InputLostError         exit 75  the database that is read does not answer any more
    ├── PlanError                  exit 1   the work does not fit the machine; nothing was started
    ├── EngineError                exit 1   the cluster could not run a task
    │   ├── MemoryLimitError                a task needs more memory than its process may have
    │   │   └── IndivisibleError            and what it must hold at once cannot be made less
    │   ├── TaskKilledError                 the processes that ran a task died
    │   └── WorkersUnavailableError exit 75  no worker came, or all were lost
    ├── WorkDirError             exit 1   the work directory cannot be written; what is finished is kept
    ├── TimeLimitError             exit 75  the time of a batch job is over before the work
    ├── ExchangeError              exit 1   an intermediate file is damaged or missing
    ├── ConservationError          exit 1   rows read != rows accepted + rows rejected
    ├── GateError                  exit 4   a rule over the whole data set refuses the publish
    └── LoadError                  exit 1   the target could not take the result
        ├── TargetBusyError        exit 75  somebody else holds the target
        └── TargetLostError        exit 75  the target does not answer any more

Each error is made of five plain texts: what happened, where, what was found, what is allowed and what to do next. They
are the constructor's arguments, so every error survives pickling between processes; passwords in them are
masked there. ``summary`` holds the record of the run that failed, where there was one.
"""

from typing import ClassVar

from daskae.masking import mask_secrets


class DaskaeError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    what : str
        What happened, as one short sentence without a full stop.
    where : str, optional
        The file, table, setting or task concerned.
    got : str, optional
        The value found.
    allowed : str, optional
        What would have been right.
    hint : str, optional
        The next step for the person who reads it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, where: str = "", got: str = "", allowed: str = "", hint: str = "") -> None:
        texts = tuple(mask_secrets(str(text)) for text in (what, where, got, allowed, hint))
        super().__init__(*texts)
        self.what, self.where, self.got, self.allowed, self.hint = texts
        self.summary: object = None

    def __str__(self) -> str:
        parts = [("where", self.where), ("got", self.got), ("allowed", self.allowed), ("next", self.hint)]
        return "\n".join([self.what, *(f"  {label + ':':<9}{text}" for label, text in parts if text)])


class SettingsError(DaskaeError):
    """A flag, a settings file, a rule or a metric is wrong; nothing was run."""

    exit_code = 2


class InputError(DaskaeError):
    """An input cannot be found, opened or read."""


class InputChangedError(InputError):
    """An input changed between planning and reading."""


class InputLostError(InputError):
    """The database that is read does not answer; trying again later can succeed."""

    exit_code = 75


class PlanError(DaskaeError):
    """The planned work does not fit the machine; nothing was started."""


class EngineError(DaskaeError):
    """The engine could not run a task."""


class MemoryLimitError(EngineError):
    """A task needs more memory than its process may have; a smaller part of its input may fit."""


class IndivisibleError(MemoryLimitError):
    """What a task has to hold at once is more than its process may have; no smaller part of its input will do."""


class TaskKilledError(EngineError):
    """The processes that ran a task died while they did."""


class WorkersUnavailableError(EngineError):
    """No worker appeared in time, or all of them were lost."""

    exit_code = 75


class WorkDirError(DaskaeError):
    """The work directory cannot be written; finished parts are kept, and the text says if the load is in the target."""


class TimeLimitError(DaskaeError):
    """The time of the batch job is over before the work; the next submission goes on."""

    exit_code = 75


class ExchangeError(DaskaeError):
    """An intermediate file is missing or its checksum is wrong."""


class ConservationError(DaskaeError):
    """Rows read differ from rows accepted plus rows rejected."""


class GateError(DaskaeError):
    """A rule over the whole data set refuses the publish; the target is untouched."""

    exit_code = 4


class LoadError(DaskaeError):
    """The target could not take the result; it is as it was before."""


class TargetBusyError(LoadError):
    """Another run holds the target; trying again later can succeed."""

    exit_code = 75


class TargetLostError(LoadError):
    """The target does not answer, or the connection to it was lost; trying again later can succeed.

    Whether a load that was being committed arrived is told by the target's ledger, to which the next attempt looks.
    """

    exit_code = 75

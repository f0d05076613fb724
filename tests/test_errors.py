import copy
import inspect
import pickle
import traceback

import pytest

from daskae import errors
from daskae.errors import DaskaeError

TREE = {
    "DaskaeError": ("Exception", 1),
    "SettingsError": ("DaskaeError", 2),
    "InputError": ("DaskaeError", 1),
    "InputChangedError": ("InputError", 1),
    "InputLostError": ("InputError", 75),
    "PlanError": ("DaskaeError", 1),
    "EngineError": ("DaskaeError", 1),
    "TimeLimitError": ("DaskaeError", 75),
    "MemoryLimitError": ("EngineError", 1),
    "IndivisibleError": ("MemoryLimitError", 1),
    "TaskKilledError": ("EngineError", 1),
    "WorkersUnavailableError": ("EngineError", 75),
    "ExchangeError": ("DaskaeError", 1),
    "ConservationError": ("DaskaeError", 1),
    "GateError": ("DaskaeError", 4),
    "WorkDirError": ("DaskaeError", 1),
    "LoadError": ("DaskaeError", 1),
    "TargetBusyError": ("LoadError", 75),
    "TargetLostError": ("LoadError", 75),
}
UNNUMBERED = ("InputChangedError", "MemoryLimitError", "IndivisibleError", "TaskKilledError")
CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DaskaeError)]
TEXTS = ("what happened", "a place", "5", "at most 3", "try again")


def test_the_tree() -> None:
    assert {kind.__name__: (kind.__bases__[0].__name__, kind.exit_code) for kind in CLASSES} == TREE


def test_the_drawing_shows_every_error_with_its_exit_code() -> None:
    lines = (errors.__doc__ or "").splitlines()
    for name, (_, code) in TREE.items():
        (line,) = [line for line in lines if line.split("─ ")[-1].split()[:1] == [name]]
        assert f"exit {code}" in line or name in UNNUMBERED


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_the_way_between_processes(kind: type[DaskaeError], protocol: int) -> None:
    error = kind(*TEXTS)
    error.summary = {"run_id": "x"}
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert (back.what, back.where, back.got, back.allowed, back.hint) == TEXTS == back.args
    assert str(back) == str(error)
    assert back.summary == {"run_id": "x"}
    assert copy.copy(error).args == TEXTS


@pytest.mark.parametrize("kind", CLASSES)
def test_keywords_and_defaults(kind: type[DaskaeError]) -> None:
    error = pickle.loads(pickle.dumps(kind("it broke", hint="mend it")))
    assert (error.what, error.where, error.got, error.allowed, error.hint) == ("it broke", "", "", "", "mend it")
    assert error.summary is None


def test_the_text() -> None:
    assert str(DaskaeError(*TEXTS)).splitlines() == [
        "what happened", "  where:   a place", "  got:     5", "  allowed: at most 3", "  next:    try again"
    ]  # fmt: skip
    assert str(DaskaeError("it broke")) == "it broke"
    assert str(DaskaeError("it broke", got="5")).splitlines() == ["it broke", "  got:     5"]


def test_a_cause_keeps_its_text_when_shown() -> None:
    with pytest.raises(DaskaeError, match="it broke") as caught:
        raise DaskaeError("it broke") from OSError("disk")
    assert "disk" in "".join(traceback.format_exception(caught.value))

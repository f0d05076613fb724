"""A step as a person writes it: a record, in Python or as a ``[[steps]]`` entry.

A step names a function (built-in or registered) or a SQL expression. It sees one batch of rows and gives them back in
the same number and order, so what it makes of a row must depend on that row alone; then no cut of the input shows in
the result. Rows that a step drops are rejected rows with the step's name as their reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from daskae.config import StepSettings
from daskae.errors import SettingsError

OnError = Literal["raise", "skip", "log"]
At = Literal["before_rules", "after_rules"]


@dataclass(frozen=True)
class Step:
    """One transformation.

    Examples
    --------
    >>> Step(function="trim", column="channel").title
    'trim_channel'
    >>> Step("net", expression="amount / 1.25", column="amount").title
    'net'
    """

    name: str = ""
    """Unique; the function and the column unless given. Rows that the step drops are rejected under it."""
    function: str | Callable[..., Any] | None = None
    """A registered name, or a function on a Polars DataFrame."""
    expression: str | None = None
    """SQL over the columns; its value goes into ``column``, and without one it says which rows stay."""
    column: str | Sequence[str] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    condition: str | None = None
    """SQL over facts: ``dataset_bytes``, ``dataset_files``, ``dataset_partitions``, ``partition_bytes``,
    ``partition_files``. The step runs where it is true."""
    on_error: OnError = "raise"
    """``skip`` and ``log`` leave the rows on which the function fails as they are; ``log`` warns of them too."""
    at: At = "after_rules"
    """``before_rules``, so that rules see what the step made; or on the rows that the rules accepted."""
    enabled: bool = True
    tags: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name, or one made of the function and the columns."""
        if self.name:
            return self.name
        if self.function is None:
            what = "expression"
        else:
            what = self.function if isinstance(self.function, str) else self.function.__name__
        named = self.column if self.column is not None else self.parameters.get("column", ())
        columns = [named] if isinstance(named, str) else list(named)
        return "_".join([what, *columns])


def steps_from(settings: Sequence[StepSettings]) -> tuple[Step, ...]:
    """Turn ``[[steps]]`` entries into records."""
    return tuple(
        Step(
            item.name or "", item.function, item.expression, item.column, item.parameters, item.description,
            item.condition, item.on_error, item.at, item.enabled, tuple(item.tags),
        )
        for item in settings
    )  # fmt: skip


def require_names(steps: Sequence[Step], taken: Sequence[str]) -> None:
    """Check that no two steps, and no step and a reason of another kind, share a name.

    Raises
    ------
    SettingsError
    """
    seen = set(taken)
    for i, step in enumerate(steps):
        if step.title in seen:
            raise SettingsError(
                "a step's name is taken", f"steps[{i}].name", step.title,
                "names of steps and rules are unique", "give the step a name of its own",
            )  # fmt: skip
        seen.add(step.title)

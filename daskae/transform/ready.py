"""All steps of a run, as every task gets them."""

from dataclasses import dataclass

from daskae.schema import Column
from daskae.transform.operations import Dedupe, Lookup, ReadyStep


@dataclass(frozen=True)
class Steps:
    """All enabled steps, ready to run."""

    before: tuple[ReadyStep, ...] = ()
    """Run before the rules."""
    after: tuple[ReadyStep, ...] = ()
    """Run on rows that the rules accepted."""
    late: tuple[ReadyStep, ...] = ()
    """Look-ups in large dimensions, done when customers are grouped."""
    dedupes: tuple[Dedupe, ...] = ()
    reads: tuple[str, ...] = ()
    """Source columns that steps need."""
    checked: tuple[Column, ...] = ()
    """Columns that row rules may name beside the source's."""
    gone: tuple[str, ...] = ()
    """Source columns that are no more when the rules run."""
    columns: tuple[Column, ...] = ()
    """Columns of the finished rows, the contract's included; source columns that no step made are not among them."""
    attributes: tuple[str, ...] = ()
    """Columns that a dimension gave: never summed over the lines of an order."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Name and place of steps whose condition is not true of the data set."""
    warnings: tuple[str, ...] = ()

    @property
    def in_tasks(self) -> tuple[ReadyStep, ...]:
        """Steps that the map task runs, in their order."""
        return (*self.before, *self.after)

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """Look-ups whose dimensions must be there before the first task."""
        found = (step.operation for step in (*self.in_tasks, *self.late))
        return tuple(operation for operation in found if isinstance(operation, Lookup))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all steps."""
        return (*(step.name for step in (*self.in_tasks, *self.late)), *(step.name for step in self.dedupes))

"""Whether the user may do what a load does: asked before the run, where the database can tell."""

from typing import Protocol, runtime_checkable

from daskae.errors import LoadError
from daskae.load.base import Load
from daskae.load.sql.dialect import Dialect, Session


@runtime_checkable
class KnowsRights(Protocol):
    """A dialect that can ask for the rights of its user."""

    def missing_rights(self, session: Session, load: Load) -> list[str]:
        """Say in words which rights the load needs and the user has not."""


def check_rights(dialect: Dialect, session: Session, load: Load) -> None:
    """Refuse a load that the user has not the right to.

    Raises
    ------
    LoadError
        Naming all that is missing.
    """
    if isinstance(dialect, KnowsRights) and (missing := dialect.missing_rights(session, load)):
        raise LoadError(
            "the user has not the right to do this",
            where=dialect.target,
            got="; ".join(missing),
            hint="grant it, or take another user or schema",
        )

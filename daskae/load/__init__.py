"""Parts in, target out: staging, one transaction, one ledger row."""

from daskae.load.audits import LoadCheck

__all__ = ["LoadCheck"]

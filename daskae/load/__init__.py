"""Parts in, target out: staging, one transaction, one ledger row."""

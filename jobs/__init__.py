"""Jobs a person runs: ``python -m jobs.<name>``."""

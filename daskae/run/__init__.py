"""The bookkeeping of a run: folders, plan, cached steps, gate, publish, report."""

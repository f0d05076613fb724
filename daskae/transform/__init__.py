"""Good rows in, the same rows with better values out; every row that a step drops is named."""

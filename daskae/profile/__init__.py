"""What the columns of a source hold, found in one pass, and the settings that follow from it."""

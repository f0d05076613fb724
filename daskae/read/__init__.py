"""Inputs in, tables out: find the files, cut them at true record ends, read every cell as text."""

"""Databases: one protocol for all of them, and what each does in its own way."""

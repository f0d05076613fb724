"""Rows in, good rows, rejected rows and rule states out."""

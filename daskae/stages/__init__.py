"""The tasks: each takes small records and file names, writes files, and returns small records."""

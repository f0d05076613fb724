"""The customer metrics job against its peers, in one session on the same files."""

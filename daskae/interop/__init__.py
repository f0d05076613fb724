"""Rules that people have written for other tools, as rules of this one."""

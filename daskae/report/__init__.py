"""What a run says at its end: a summary on the terminal and a one-file HTML report."""

"""The run: when to label, what to commit, how it ends."""

"""Runs on disk: directories, checkpoints, sessions."""

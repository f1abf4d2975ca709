"""The ``otf`` command."""

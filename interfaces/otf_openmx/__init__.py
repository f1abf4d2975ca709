"""OpenMX for otf: one process per label."""

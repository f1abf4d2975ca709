"""OpenMX for otf: one process a label."""

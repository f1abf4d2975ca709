"""SIESTA for otf: a server driven over a socket, or one process per label."""

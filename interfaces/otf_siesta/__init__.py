"""SIESTA for otf: a server asked over a socket, or one process a label."""

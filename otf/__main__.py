"""``python -m otf``: the ``otf`` command."""

from otf.cli.main import main

if __name__ == "__main__":
    main()

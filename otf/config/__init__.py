"""What a run is: the schema and the reader that names file, line and column of every problem."""

from otf.config.reader import read_config
from otf.config.schema import Config

__all__ = ["Config", "read_config"]

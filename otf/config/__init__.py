"""Configuration of a run: its schema, and a reader that reports the position of every problem."""

from otf.config.reader import read_config
from otf.config.schema import Config

__all__ = ["Config", "read_config"]

"""On-the-fly acceleration of ab-initio molecular dynamics with a closed-form force model."""

__version__ = "0.1.0"

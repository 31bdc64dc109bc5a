"""Losses, heatmaps and decoding for sparse point labels."""

from importlib.metadata import version

__version__ = version("falloff")

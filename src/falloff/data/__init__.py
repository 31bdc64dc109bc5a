"""Images and their labelled points: scenes made here, and real sets read from their own files."""

from falloff.data.dataset import SPLITS, Dataset, digest, load

__all__ = ["SPLITS", "Dataset", "digest", "load"]

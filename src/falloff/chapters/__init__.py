"""The chapters: what each is, why it must run again, running it headless. What is stale is found without PyTorch."""

from falloff.chapters.chapter import Chapter, find, find_all, validate
from falloff.chapters.headless import build, execute, rerun

__all__ = ["Chapter", "build", "execute", "find", "find_all", "rerun", "validate"]

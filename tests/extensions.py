"""The book's own Sphinx extensions, loaded as the book loads them."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_extensions"


def extension_of(name: str) -> ModuleType:
    """An extension by the name of its file, loaded anew."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""What pyproject.toml cannot say: the wheel carries the notebooks and the record, which lie beside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ("notebooks", "data/claims.yml", "data/recorded/study")


class WithTheRecord(build_py):
    """Builds the package with a copy of what a notebook reads, for who runs one without the checkout."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for name in CARRIED:
            source, copy = Path(name), Path(self.build_lib, "falloff", "carried", name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                hidden = shutil.ignore_patterns(".*", "*.html")
                shutil.copytree(source, copy, dirs_exist_ok=True, ignore=hidden)
            else:
                shutil.copy(source, copy)


setup(cmdclass={"build_py": WithTheRecord})

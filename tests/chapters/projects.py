"""Small projects to try chapters in: their notebooks."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

# A parameters cell with every kind.
CELL = """
steps: int = 200  # optimiser steps; [1, 100000]
rate: float = 0.003  # learning rate; [1e-6, 1]
loss: str = "focal"  # which loss; {bce, focal, mse}
title: str = "a # b"  # shown above the figure
fast: bool = False  # skip the slow part
seeds: list[int] = [0, 1]  # one run each; [0, 99]
rates: list[float] = [0.1]  # to choose from
labels: list[str] = ["one"]  # names of the curves
"""
PARAMETERS = """
steps: int = 5  # of the optimiser; [1, 100]
title: str = "plain"  # shown above
seeds: list[int] = [0, 1]  # one run each; [0, 99]
fast: bool = False  # skip the slow part
"""
VALIDATE = 'from falloff import chapters\n\nchapters.validate("01_small", globals())'


def write_chapter(root, name, *cells, parameters=""):
    notebook = new_notebook(cells=[
        new_markdown_cell("# A question\n\nSome words."),
        *([new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]})] if parameters else []),
        *(new_code_cell(cell.strip()) for cell in cells),
    ], metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}})
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")

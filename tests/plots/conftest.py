import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from falloff import plots


@pytest.fixture
def ax():
    fig, ax = plots.new()
    yield ax
    plt.close(fig)


@pytest.fixture
def contrast():
    """Contrast of two colours as WCAG 2 defines it, 1 to 21."""
    def luminance(color):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return np.dot((0.2126, 0.7152, 0.0722), linear)

    def of(one, two):
        low, high = sorted((luminance(one), luminance(two)))
        return (high + 0.05) / (low + 0.05)

    return of

"""Scores turned into probabilities by what is fitted on other pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from falloff.checks import check_one_of

Recalibration = Literal["platt", "temperature", "isotonic"]
LEAST = 1e-4  # a score nearer to 0 or 1 is taken for this far from it where its logit is asked for


def recalibration(
    how: Recalibration, score: Float[Tensor, " forecasts"], happened: Float[Tensor, " forecasts"]
) -> Callable[[Tensor], Tensor]:
    r"""A function from scores to probabilities, fitted to some scores and what came of them.

    "platt" is :math:`\sigma(a z + b)` and "temperature" :math:`\sigma(a z)`, of most likelihood, with z the score's
    logit. "isotonic" is the rising step function of least squares, flat beyond the scores that it was fitted to.
    Temperature cannot move what is too high everywhere, such as the scores of a loss with a weight on the points.

    Scores need not be probabilities: for the logit they are clamped to [0.0001, 0.9999], so what a squared error puts
    out below 0 counts as 0.0001. Where all that was fitted to happened, or nothing of it, the probability is 1, or 0,
    everywhere; where there was nothing, NaN.

    Args:
        how: the form.
        score: ``(n,)``.
        happened: 1 or 0, ``(n,)``.

    Raises:
        ValueError: ``how`` is none of these.

    Source: Platt 1999, Probabilistic outputs for support vector machines; Guo et al. 2017, On calibration of modern
        neural networks; Zadrozny and Elkan 2002, Transforming classifier scores into accurate multiclass probability
        estimates. All as in scikit-learn, without regularisation.
    """
    check_one_of("how", how, get_args(Recalibration))
    share = float(happened.double().mean()) if len(happened) else math.nan
    if not 0 < share < 1:
        return lambda other: torch.full(other.shape, share, dtype=torch.float64)
    if how == "isotonic":
        steps = IsotonicRegression(out_of_bounds="clip").fit(_feature(score), happened.cpu().numpy())
        predict: Callable[[np.ndarray], np.ndarray] = steps.predict
    else:
        line = LogisticRegression(C=math.inf, fit_intercept=how == "platt")
        line.fit(_feature(score, logit=True), happened.cpu().numpy())

        def predict(feature: np.ndarray) -> np.ndarray:
            return line.predict_proba(feature)[:, 1]

    def recalibrated(other: Tensor) -> Tensor:
        if len(other) == 0:  # which scikit-learn refuses
            return other.double()
        return torch.from_numpy(np.ascontiguousarray(predict(_feature(other, logit=how != "isotonic"))))

    return recalibrated


def _feature(score: Tensor, *, logit: bool = False) -> np.ndarray:
    """Scores or their logits as one feature."""
    score = score.double().cpu()
    return (score.logit(LEAST) if logit else score).numpy()[:, None]

"""How much is computed: each profile is a set of parameters, of which a chapter takes those that it declares."""

from __future__ import annotations

from typing import Any

PROFILES: dict[str, dict[str, Any]] = {
    "quick": {},
    "study": {},
    "full": {"device": "cuda", "steps": 4000, "seeds": list(range(10))},
    "tiny": {"steps": 4, "seeds": [0, 1], "rates": [0.01], "evaluations": 2},
}


def profile(name: str) -> dict[str, Any]:
    """The parameters of a profile that differ from the defaults.

    Raises:
        ValueError: there is no such profile.
    """
    if name not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {name!r}")
    return PROFILES[name]

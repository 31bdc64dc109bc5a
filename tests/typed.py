"""The check of types and shapes as functions are called, for which, as for mypy, an integer is a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

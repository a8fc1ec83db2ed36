"""Validation of scalar arguments: numbers, names and settings objects."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def listed(names: Iterable[str]) -> str:
    """Return the names, quoted and separated by commas, for a message."""
    return ", ".join(f"'{name}'" for name in names)


def as_integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return `value` as an int between `low` and `high`, both included."""
    wanted = f"an integer of at least {low}"
    if high is not None:
        wanted += f" and at most {high}"
    # In Python a bool is an int, but `True` neurons must be a mistake.
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be {wanted}, got {value}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {wanted}, got {value!r}") from None
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} must be {wanted}, got {number}")
    return number


def as_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return `value` as a finite float between `low` and `high`, excluding open bounds."""
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        wanted = _numbers_between(low, high, open_low, open_high)
        raise TypeError(f"{name} must be {wanted}, got {value!r}") from None
    if (
        not math.isfinite(number)
        or number < low
        or number > high
        or (open_low and number == low)
        or (open_high and number == high)
    ):
        wanted = _numbers_between(low, high, open_low, open_high)
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return number


def _numbers_between(low: float, high: float, open_low: bool, open_high: bool) -> str:
    """Describe the allowed range, for a message."""
    bounds = []
    if low > -math.inf:
        bounds.append(f"{'above' if open_low else 'of at least'} {low:g}")
    if high < math.inf:
        at_most = "at most" if bounds else "of at most"
        bounds.append(f"{'below' if open_high else at_most} {high:g}")
    return " ".join(["a finite number", " and ".join(bounds)]).strip()


def as_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool if it is a Python or NumPy bool."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r}")


def as_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is in `choices`."""
    choices = tuple(choices)
    if isinstance(value, str) and value in choices:
        return value
    raise ValueError(
        f"{name} must be one of {listed(choices)}, got {value!r}{guess(value, choices)}"
    )


def as_settings(
    name: str,
    value: Any,
    base: type[T],
    choices: Mapping[str, Callable[..., T]],
    others: tuple[str, ...] = (),
) -> T:
    """Return `value` as a settings object; `value` is an object or a name.

    A name may be followed by positional arguments for the class, as in ``"quantile(0.9)"``.
    `others` are further names that the caller handles itself; the error message lists them too.
    """
    if isinstance(value, base) and type(value) is not base:
        return value
    if isinstance(value, str):
        called, bracket, settings = value.partition("(")
        if called in choices:
            if not bracket:
                return choices[called]()
            try:
                inner = settings.removesuffix(")")
                arguments = ast.literal_eval(f"({inner},)") if inner.strip() else ()
            except (ValueError, SyntaxError):
                arguments = None
            if settings.endswith(")") and arguments is not None:
                try:
                    return choices[called](*arguments)
                except TypeError:
                    raise ValueError(
                        f"{name} must have the settings that '{called}' takes, got {value!r}"
                    ) from None
    raise ValueError(
        f"{name} must be one of {listed((*others, *choices))} or a cnet.{base.__name__} object, "
        f"got {value!r}{guess(value, (*others, *choices))}"
    )


def check_keys(name: str, value: Any, keys: Iterable[str]) -> None:
    """Raise TypeError or ValueError if `value` is not a dict with exactly these keys."""
    keys = set(keys)
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, got {value!r}")
    for key in value:
        if key not in keys:
            raise ValueError(f"{name} has the unknown key {key!r}{guess(key, sorted(keys))}")
    missing = sorted(keys - set(value))
    if missing:
        raise ValueError(f"{name} must have the key {missing[0]!r}, which is missing")


def guess(value: Any, names: Iterable[str] = ()) -> str:
    """Return a suggestion for an error message: a similar name, or an object of the class `value`."""
    if isinstance(value, type):
        return f"; did you mean {value.__name__}()?"
    if not isinstance(value, str):
        return ""
    # Imported here, because misspelt names are rare.
    from difflib import get_close_matches

    written = value.lower().replace(" ", "_")
    beginning = [name for name in names if written and name.startswith(written)]
    near = beginning or get_close_matches(written, names, 1)
    return f"; did you mean '{near[0]}'?" if near else ""

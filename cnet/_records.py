"""Records: small immutable objects that hold settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

R = TypeVar("R", bound="Record")


class Record:
    """Base class of frozen dataclasses that are compared, hashed and printed by their fields.

    The dataclass decorator would generate these methods for each of some thirty classes, which would be
    a tenth of the time of importing cnet. Subclasses therefore pass it ``eq=False, repr=False``.
    """

    def settings(self) -> dict[str, Any]:
        """Return the fields by name."""
        # mypy cannot know that every subclass is a dataclass.
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    def _compared(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in _compared_fields(type(self))])

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash((type(self), self._compared()))

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.settings().items())
        return f"{type(self).__qualname__}({', '.join(shown)})"


# Names of the fields that are compared, by class.
_COMPARED: dict[type, tuple[str, ...]] = {}


def _compared_fields(cls: Any) -> tuple[str, ...]:
    if cls not in _COMPARED:
        _COMPARED[cls] = tuple(field.name for field in fields(cls) if field.compare)
    return _COMPARED[cls]


def record_to_dict(record: Any) -> dict[str, Any]:
    """Return the name and the settings of a record, as plain values."""
    return {"name": record.name, **record.settings()}


def record_from_dict(what: str, data: Any, classes: Mapping[str, type[R]]) -> R:
    """Return the record that `record_to_dict` described.

    Parameters
    ----------
    what : str
        What the record is, for error messages.
    data : dict
    classes : mapping of str to type
        The classes of such records, by name.

    Raises
    ------
    ValueError
        If the name is unknown, or the settings are not those of the class.
    """
    if not isinstance(data, dict) or data.get("name") not in classes:
        raise ValueError(f"{what} must be a dict with a known name, got {data!r}")
    settings = {key: value for key, value in data.items() if key != "name"}
    try:
        return classes[data["name"]](**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} has invalid settings: {error}") from error

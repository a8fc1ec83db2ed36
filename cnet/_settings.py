"""What the objects that hold settings have in common."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class Settings:
    """Base of frozen dataclasses, which compare, hash and print by their fields.

    The dataclass decorator would write these methods anew for each class, and that for some thirty
    classes is a tenth of the time that importing cnet takes; so it is told not to (``eq=False,
    repr=False``).
    """

    def _compared(self) -> tuple[Any, ...]:
        # mypy cannot know that every subclass is a dataclass.
        return tuple(getattr(self, f.name) for f in fields(self) if f.compare)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash((type(self), self._compared()))

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({', '.join(shown)})"

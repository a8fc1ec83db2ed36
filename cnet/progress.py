"""The output of training: nothing, a line for each epoch, or a progress bar."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Verbose: TypeAlias = bool | Literal[0, 1, 2, "bar"]


def as_verbose(verbose: Any) -> Verbose:
    """Return `verbose` if it is a bool, 0, 1, 2 or "bar"."""
    if isinstance(verbose, (bool, np.bool_)) or (type(verbose) is int and verbose in (0, 1, 2)):
        return bool(verbose)
    if isinstance(verbose, str) and verbose == "bar":
        return "bar"
    raise TypeError(f"verbose must be True, False or 'bar', got {verbose!r}")


class Progress:
    """Shows epochs as they finish.

    Parameters
    ----------
    verbose : bool or "bar"
    epochs : int
        Number of epochs.
    n : int
        Number of rows in an epoch.
    printed_scale : float
        Factor of the total error in a line.

    Raises
    ------
    ImportError
        If `verbose` is "bar" and tqdm is not installed.
    """

    def __init__(self, verbose: Verbose, epochs: int, n: int, printed_scale: float) -> None:
        self._lines = verbose is True
        self._printed_scale = printed_scale
        self._n = n
        self._epochs = epochs
        self._tqdm: Any = None
        self._bar: Any = None
        if verbose == "bar":
            try:
                from tqdm.auto import tqdm
            except ImportError as error:
                raise ImportError(
                    'verbose="bar" requires tqdm: pip install cnet[progress]'
                ) from error
            self._tqdm = tqdm

    def epochs(
        self, first: int, totals: NDArray[np.float64], recorded: Mapping[str, list[float]]
    ) -> None:
        """Show some epochs, numbered from `first`."""
        if self._lines:
            for i, total in enumerate(totals):
                values = "".join(
                    f", {name}: {recorded[name][i]:.4g}" for name in recorded if name != "loss"
                )
                print(f"Epoch: {first + i}, Total Error: {self._printed_scale * total:.3f}{values}")
        elif self._bar is not None and len(totals):
            last = {name: f"{values[-1]:.4g}" for name, values in recorded.items()}
            self._bar.set_description(f"epoch {first + len(totals)}", refresh=False)
            self._bar.set_postfix(last, refresh=False)
            self._bar.update(len(totals) * self._n)

    def __enter__(self) -> Self:
        if self._tqdm is not None:
            self._bar = self._tqdm(total=self._epochs * self._n, unit="rows", unit_scale=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

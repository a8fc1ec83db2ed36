"""What training shows as it goes on: nothing, a line for each epoch, or a bar."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class Progress:
    """Shows epochs as they finish.

    Parameters
    ----------
    verbose : bool or "bar"
    epochs : int
        How many there will be.
    n : int
        Rows of an epoch.
    printed : float
        What a total is multiplied by to be the total error of a line.

    Raises
    ------
    ImportError
        Where a bar is wanted and tqdm is not installed.
    """

    def __init__(self, verbose: bool | str, epochs: int, n: int, printed: float) -> None:
        self._lines = verbose is True
        self._printed = printed
        self._n = n
        self._epochs = epochs
        self._tqdm: Any = None
        self._bar: Any = None
        if verbose == "bar":
            try:
                from tqdm.auto import tqdm
            except ImportError as error:
                raise ImportError('verbose="bar" wants tqdm: pip install cnet[progress]') from error
            self._tqdm = tqdm

    def epochs(
        self, first: int, totals: NDArray[np.float64], recorded: dict[str, list[float]]
    ) -> None:
        """Show some epochs, numbered from `first`."""
        if self._lines:
            for i, total in enumerate(totals):
                values = "".join(
                    f", {name}: {recorded[name][i]:.4g}" for name in recorded if name != "loss"
                )
                print(f"Epoch: {first + i}, Total Error: {self._printed * total:.3f}{values}")
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

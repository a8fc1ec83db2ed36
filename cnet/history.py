"""The record of training, and the error that ends training if values are no longer finite."""

from __future__ import annotations

from typing import Any


class History(dict[str, list[float]]):
    """The values recorded in training: a dict of lists with one number for each epoch.

    ``history["loss"]`` is the loss over the rows of the epoch, each before the update of its batch: the
    mean, or with ``reduction="sum"`` the sum, plus the layers' penalties. Depending on the arguments of
    ``train``, there are also ``"val_loss"``; the metrics by name, those of the validation data with the
    prefix ``"val_"``, all computed after the epoch; and ``"learning_rate"``, the rate of the first step
    of the epoch.
    """

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame with a column for each list and a row for each epoch.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas requires pandas: pip install pandas") from error
        return pd.DataFrame(dict(self)).rename_axis("epoch")


class DivergenceError(ArithmeticError):
    """Training stopped because the loss, a weight or the optimizer's state was no longer finite.

    The network has the weights of the last epoch that ended with finite numbers.

    Attributes
    ----------
    epoch : int
        The epoch that failed, from 0.
    history : History
        The values of the epochs before it.
    """

    def __init__(self, message: str, epoch: int, history: History) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.history = history

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.epoch, self.history)

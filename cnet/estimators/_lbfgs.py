"""Training by L-BFGS (Liu and Nocedal, 1989), SciPy's L-BFGS-B without its bounds."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from cnet._arrays import Data
from cnet._program import Program
from cnet.estimators._network import Plan
from cnet.estimators._parameters import Parameters
from cnet.estimators._rows import mean_loss, parts
from cnet.losses import Loss, LossFunction


class _OneBlasThread:
    """While it is entered, by however many threads of Python, BLAS computes in one thread.

    L-BFGS asks it for products of twenty by twenty numbers. OpenBLAS shares even these out, and its
    threads, where other work has their cores, wait for each other: 57 calls took 190 ms instead of 1.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit = _blas().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()


_one_blas_thread = _OneBlasThread()


@functools.cache
def _blas() -> Any:
    return ThreadpoolController()


def objective(
    program: Program, plan: Plan, data: Data, loss: Loss | LossFunction, constant: float
) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
    """Return the mean loss over all rows and its gradient, as a function of a network's parameters.

    Parameters
    ----------
    program : Program
        Whose parameters are set to what the function is called with.
    plan : Plan
        What the program was made from.
    data : Data
        ``data.x`` may be a matrix in compressed rows.
    loss : Loss or callable
    constant : float
        What is added to the loss.
    """
    n_parts = len(parts(data.x)) if isinstance(loss, Loss) else 1
    # Each part adds its share of the penalty.
    sharing = plan._replace(l2=plan.l2 / n_parts).program(program)

    def value_and_gradient(
        parameters: NDArray[np.float64],
    ) -> tuple[float, NDArray[np.float64]]:
        program.parameters[...] = parameters
        gradient = np.empty_like(parameters)
        return mean_loss(sharing, data, loss, gradient) + constant, gradient

    return value_and_gradient


def fit(
    parameters: Parameters,
    weights: NDArray[np.float64],
    function: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    observe: Callable[[int, float], bool],
) -> tuple[float, int]:
    """Minimise a function of a network's parameters, and leave them at the best found.

    Whatever ends it early, they are those of the last finished iteration.

    Parameters
    ----------
    parameters : Parameters
    weights : ndarray
        The network's parameters, where to start from and where the result goes.
    function : callable
        Returns the loss and its gradient.
    observe : callable
        ``observe(iteration, loss)`` is called after each iteration; True ends the training.

    Returns
    -------
    loss : float
    n_iterations : int

    Raises
    ------
    ValueError
        Where the loss is not finite.
    """
    iterations = 0
    reached = weights.copy()

    def after(intermediate_result: Any) -> None:
        nonlocal iterations
        weights[...] = reached[...] = intermediate_result.x
        iterations += 1
        if observe(iterations - 1, float(intermediate_result.fun)):
            raise StopIteration

    try:
        with _one_blas_thread:
            result = minimize(
                function,
                weights.copy(),
                method="L-BFGS-B",
                jac=True,
                callback=after,
                options={
                    "maxfun": parameters.max_fun,
                    "maxiter": parameters.max_iter,
                    "gtol": parameters.tol,
                },
            )
        if np.isfinite(result.fun):
            reached[...] = result.x
    finally:
        # The line search has tried others.
        weights[...] = reached
    iterations = min(int(result.nit), parameters.max_iter)
    if not np.isfinite(result.fun):
        raise ValueError(
            "L-BFGS ended where the loss is not a finite number; X or y may have large values, and want "
            "to be scaled"
        )
    # 99 is that a callback has stopped it.
    if result.status not in (0, 99):
        reason = {1: "max_iter or max_fun is reached"}.get(result.status, "the line search failed")
        warnings.warn(
            f"L-BFGS ended after {iterations} iterations before it had converged: {reason}. "
            f"A larger max_iter={parameters.max_iter} or max_fun={parameters.max_fun}, or scaled "
            "inputs, may help",
            ConvergenceWarning,
            stacklevel=5,
        )
    return float(result.fun), iterations

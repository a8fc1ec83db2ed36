"""Training by L-BFGS (Liu and Nocedal, 1989), with SciPy's L-BFGS-B without bounds."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from cnet._plan import Plan
from cnet.data import Data
from cnet.estimators._network import changed
from cnet.estimators._parameters import Parameters
from cnet.estimators._rows import mean_loss, slices_of
from cnet.losses import Loss

Objective: TypeAlias = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


class _OneBlasThread:
    """A context manager in which BLAS uses one thread, also if several Python threads enter it.

    L-BFGS computes products of twenty by twenty numbers. OpenBLAS splits even these among its threads,
    which then wait for each other if the cores are busy: 57 calls took 190 ms instead of 1.
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
    plan: Plan,
    data: Data,
    loss: Loss,
    alpha: float,
    constant: float,
    trained: NDArray[np.bool_] | None,
) -> Objective:
    """Return the mean loss over all rows and its gradient, as a function of the trained parameters.

    Parameters
    ----------
    plan : Plan
        Its parameters are set to those that the function is called with.
    data : Data
        ``data.x`` may be a CSR matrix.
    loss : Loss
    alpha : float
        L2 penalty of the layers.
    constant : float
        A number to add to the loss.
    trained : ndarray of bool, or None
        Which of the model's parameters the function is called with; None: all.
    """
    n_slices = 1 if loss.in_python else len(slices_of(data.x))
    # Each slice adds its share of the penalty.
    layers = [changed(layer, l2=alpha / n_slices) for layer in plan.model.layers]
    part = plan if n_slices == 1 else Plan(plan.model, layers)
    chosen = slice(None) if trained is None else trained

    def value_and_gradient(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        plan.parameters[chosen] = parameters
        gradient = np.empty_like(plan.parameters)
        return mean_loss(part, data, loss, gradient) + constant, gradient[chosen]

    return value_and_gradient


def minimize(
    function: Objective,
    weights: NDArray[np.float64],
    trained: NDArray[np.bool_] | None,
    parameters: Parameters,
    observe: Callable[[int, float], bool],
) -> tuple[float, int]:
    """Minimise a function of a network's parameters, and set these to the best ones found.

    If an exception ends it, they are those of the last finished iteration.

    Parameters
    ----------
    function : callable
        Returns the loss and its gradient.
    weights : ndarray
        The network's parameters: where to start, and where to store the result.
    trained : ndarray of bool, or None
        Which of them the function is called with; None: all.
    parameters : Parameters
    observe : callable
        ``observe(iteration, loss)`` is called after each iteration, and returns True to stop.

    Returns
    -------
    loss : float
    n_iterations : int

    Raises
    ------
    ValueError
        If the loss is not finite.
    """
    iterations = 0
    chosen = slice(None) if trained is None else trained
    reached = np.array(weights[chosen])
    if not reached.size:
        return function(reached)[0], 0

    def after(intermediate_result: Any) -> None:
        nonlocal iterations
        weights[chosen] = reached[...] = intermediate_result.x
        iterations += 1
        if observe(iterations - 1, float(intermediate_result.fun)):
            raise StopIteration

    try:
        with _one_blas_thread:
            result = scipy.optimize.minimize(
                function,
                reached.copy(),
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
        weights[chosen] = reached
    iterations = min(int(result.nit), parameters.max_iter)
    if not np.isfinite(result.fun):
        raise ValueError(
            "L-BFGS ended because the loss is not a finite number; X or y may have large values that "
            "have to be scaled"
        )
    # 99: a callback has stopped it.
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

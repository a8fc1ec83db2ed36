from collections.abc import Callable
from typing import Any, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

# Arrays of reals are float32 or float64; all arrays of a network have the same dtype. Empty arrays have
# length 0 in their first dimension. A layout is the number of rows that the workspace has room for, the
# number of rows that pass through the operations together, and the number of threads.
_Layout: TypeAlias = tuple[int, int, int]
# x, targets, labels and sample weights, empty if they are not given.
_Examples: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[np.intp], NDArray[Any]]
_LossFunction: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], tuple[float, NDArray[Any]]]

ACTIVATIONS: dict[str, int]
LOSSES: dict[str, int]
OPERATIONS: dict[str, int]
OPTIMIZERS: dict[str, int]
REDUCTIONS: dict[str, int]
MOST_THREADS: int

# dtypes of the records that describe an operation, the loss that is minimised, and an optimizer.
OPERATION: np.dtype[np.void]
OBJECTIVE: np.dtype[np.void]
OPTIMIZER: np.dtype[np.void]

def all_finite(values: NDArray[Any]) -> bool: ...
def measure(
    operations: NDArray[np.void], layout: _Layout, training: bool, dtype: np.dtype[Any]
) -> tuple[int, float]: ...
def shuffle(bit_generator: np.random.BitGenerator, order: NDArray[np.intp]) -> None: ...

@final
class Network:
    def __new__(
        cls,
        operations: NDArray[np.void],
        parameters: NDArray[Any],
        buffers: NDArray[Any],
        workspace: NDArray[Any],
        layout: _Layout,
        training: bool,
    ) -> Self: ...
    @property
    def n_inputs(self) -> int: ...
    @property
    def n_outputs(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def needs_whole_batch(self) -> bool: ...
    def penalty(self) -> float: ...
    def forward(self, x: NDArray[Any], outputs: NDArray[Any], check: bool = False) -> bool: ...

@disjoint_base
class Evaluation:
    def __new__(
        cls,
        network: Network,
        examples: _Examples,
        objective: NDArray[np.void],
        loss_function: _LossFunction | None,
    ) -> Self: ...
    def evaluate(
        self,
        divisor: float,
        outputs: NDArray[Any],
        gradient: NDArray[Any],
        input_gradient: NDArray[Any],
    ) -> float: ...
    def __reduce__(self) -> Any: ...

@disjoint_base
class Run(Evaluation):
    def __new__(
        cls,
        network: Network,
        examples: _Examples,
        objective: NDArray[np.void],
        loss_function: _LossFunction | None,
        optimizer: NDArray[np.void],
        state: tuple[NDArray[Any], NDArray[np.intp]],
        scratch: tuple[NDArray[Any], NDArray[Any]],
        batch_size: int,
    ) -> Self: ...
    @property
    def transposed(self) -> bool: ...
    @property
    def stopped(self) -> bool: ...
    def set_reduce(self, function: int, context: int) -> None: ...
    def epochs(
        self,
        order: NDArray[np.intp],
        dropout_seeds: NDArray[np.uint64],
        rates: NDArray[np.float64],
        totals: NDArray[np.float64],
        watcher: Any = None,
    ) -> int: ...

@final
class Predictor:
    def __new__(cls, network: Network) -> Self: ...
    @property
    def parameters(self) -> NDArray[Any]: ...
    def __call__(self, x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def row(self, x: Any) -> NDArray[Any] | None: ...
    def __reduce__(self) -> Any: ...

@final
class Learner:
    rate: float
    def __new__(
        cls,
        run: Run,
        takes_labels: bool,
        low: float,
        high: float,
        rate: float,
        dropout_seed: int,
    ) -> Self: ...
    def __call__(self, x: Any, y: Any) -> float | None: ...
    def learn_from(
        self, x: NDArray[Any], targets: NDArray[Any], labels: NDArray[np.intp]
    ) -> float: ...

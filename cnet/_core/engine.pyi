from typing import Any, final

import numpy as np
from numpy.typing import NDArray

# Arrays of reals are float32 or float64, all of a call alike. Shapes: P parameters, n rows, I inputs
# and O outputs of the network; "or empty" arrays have length 0 in their first dimension.

ACTIVATIONS: dict[str, int]
LOSSES: dict[str, int]
OPTIMIZERS: dict[str, int]
OPTIMIZER_SETTINGS: int
REDUCTIONS: dict[str, int]
MOST_THREADS: int
PROGRAM_COLUMNS: int

def keeps_preactivation(activation: int) -> bool: ...
def row_room(n: int) -> int: ...
def workspace_size(program: NDArray[np.intp], capacity: int, threads: int) -> int: ...
def all_finite(values: NDArray[Any]) -> bool: ...
def shuffle(bit_generator: Any, order: NDArray[np.intp]) -> None: ...
def forward(
    program: NDArray[np.intp],
    parameters: NDArray[Any],
    x: NDArray[Any],
    outputs: NDArray[Any],
    workspace: NDArray[Any],
    capacity: int,
    block: int,
    threads: int,
    check: bool = False,
    dropout_key: int = 0,
) -> bool: ...
def backward(
    program: NDArray[np.intp],
    parameters: NDArray[Any],
    x: NDArray[Any],
    output_gradient: NDArray[Any],
    penalty_scale: float,
    workspace: NDArray[Any],
    capacity: int,
    block: int,
    gradient: NDArray[Any],
    input_gradient: NDArray[Any],
    threads: int,
    dropout: bool = False,
) -> None: ...
def loss_and_gradient(
    program: NDArray[np.intp],
    parameters: NDArray[Any],
    x: NDArray[Any],
    targets: NDArray[Any],
    labels: NDArray[np.intp],
    sample_weight: NDArray[Any],
    loss: int,
    setting: float,
    scale: float,
    penalty_scale: float,
    workspace: NDArray[Any],
    capacity: int,
    gradient: NDArray[Any],
    input_gradient: NDArray[Any],
    outputs: NDArray[Any],
    threads: int,
) -> float: ...
def penalty(program: NDArray[np.intp], parameters: NDArray[Any]) -> float: ...
def apply_update(
    program: NDArray[np.intp],
    optimizer: int,
    settings: NDArray[np.float64],
    learning_rate: float,
    number: int,
    parameters: NDArray[Any],
    gradient: NDArray[Any],
    moments: NDArray[Any],
    threads: int,
) -> None: ...
def train(
    program: NDArray[np.intp],
    parameters: NDArray[Any],
    x: NDArray[Any],
    targets: NDArray[Any],
    labels: NDArray[np.intp],
    sample_weight: NDArray[Any],
    loss: int,
    setting: float,
    reduction: int,
    divide_penalties: bool,
    recorded_scale: float,
    order: NDArray[np.intp],
    dropout_seeds: NDArray[np.uint64],
    batch_size: int,
    optimizer: int,
    settings: NDArray[np.float64],
    rates: NDArray[np.float64],
    steps: NDArray[np.intp],
    moments: NDArray[Any],
    gradient: NDArray[Any],
    finished: NDArray[Any],
    workspace: NDArray[Any],
    capacity: int,
    totals: NDArray[np.float64],
    threads: int,
) -> int: ...

@final
class Predictor:
    @property
    def parameters(self) -> NDArray[Any]: ...
    def __init__(
        self,
        program: NDArray[np.intp],
        parameters: NDArray[Any],
        workspace: NDArray[Any],
        capacity: int,
        threads: int,
    ) -> None: ...
    def __call__(self, x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def row(self, x: Any) -> NDArray[Any] | None: ...
    def __reduce__(self) -> Any: ...

@final
class Learner:
    rate: float
    def __init__(
        self,
        program: NDArray[np.intp],
        parameters: NDArray[Any],
        row: NDArray[Any],
        loss: int,
        setting: float,
        cross_entropy: bool,
        low: float,
        high: float,
        optimizer: int,
        settings: NDArray[np.float64],
        rate: float,
        dropout_seed: int,
        steps: NDArray[np.intp],
        moments: NDArray[Any],
        gradient: NDArray[Any],
        before: NDArray[Any],
        workspace: NDArray[Any],
    ) -> None: ...
    def __call__(self, x: Any, y: Any) -> float | None: ...
    def learn_from(
        self, x: NDArray[Any], targets: NDArray[Any], labels: NDArray[np.intp]
    ) -> float: ...

"""Dense neural networks on the CPU, compiled."""

from cnet._plan import Predictor
from cnet.callbacks import Callback, EarlyStopping
from cnet.config import show_config
from cnet.history import DivergenceError, History
from cnet.initializers import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    LecunNormal,
    Orthogonal,
    Uniform,
    Zeros,
)
from cnet.layers import BatchNorm, Layer, LayerNorm, Residual
from cnet.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    Poisson,
    Quantile,
    SquaredError,
)
from cnet.network import NeuralNetwork
from cnet.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, Rprop
from cnet.schedules import (
    Adaptive,
    Constant,
    Cosine,
    ExponentialDecay,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
)
from cnet.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AbsoluteError",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adaptive",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Callback",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "DivergenceError",
    "EarlyStopping",
    "ExponentialDecay",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "History",
    "Huber",
    "Initializer",
    "InverseScaling",
    "Layer",
    "LayerNorm",
    "LecunNormal",
    "Loss",
    "NeuralNetwork",
    "OneCycle",
    "Optimizer",
    "Orthogonal",
    "Poisson",
    "Predictor",
    "Quantile",
    "RMSprop",
    "ReduceOnPlateau",
    "Residual",
    "Rprop",
    "Schedule",
    "SquaredError",
    "StepDecay",
    "Uniform",
    "Zeros",
    "__version__",
    "get_num_threads",
    "num_threads",
    "set_num_threads",
    "show_config",
]

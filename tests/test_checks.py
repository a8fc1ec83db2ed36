"""Checks of numbers, flags, names and settings objects that users pass in, and the error messages."""

import fractions
import math

import numpy as np
import pytest
from helpers import network, refused

import cnet
from cnet._checks import as_choice, as_flag, as_integer, as_number, as_settings, listed
from cnet._core.engine import ACTIVATIONS
from cnet.initializers import INITIALIZERS
from cnet.losses import LOSSES
from cnet.optimizers import OPTIMIZERS

X = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
Y = [0, 1, 1]


@pytest.fixture
def net():
    """Return a network with a history and optimizer state."""
    net = network(2, 3, 2)
    net.train(X, Y, 0.1, 2, optimizer="adam", verbose=False)
    return net


class Integer:
    """Has an integer's __index__ method and nothing else."""

    def __index__(self):
        return 3


# The checks themselves


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), Integer()], ids=repr)
def test_integers(value):
    found = as_integer("count", value, 1, 5)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize("value", [1, 5])
def test_integers_at_the_bounds(value):
    assert as_integer("count", value, 1, 5) == value


@pytest.mark.parametrize("value", [0, -1, 6, 2**62, 2**100, -(2**70)])
def test_integers_out_of_range(value):
    with refused(f"count must be an integer of at least 1 and at most 5, got {value}"):
        as_integer("count", value, 1, 5)


def test_integers_without_an_upper_bound():
    assert as_integer("count", 2**70, 0) == 2**70
    with refused("count must be an integer of at least 0, got -1"):
        as_integer("count", -1, 0)


@pytest.mark.parametrize(
    "value", [True, False, np.True_, 3.0, np.float32(3), "3", None, [3], 3j, math.nan], ids=repr
)
def test_values_that_are_not_integers(value):
    with refused("count must be an integer of at least 1 and at most 5", error=TypeError):
        as_integer("count", value, 1, 5)


@pytest.mark.parametrize(
    "value",
    [1, 1.0, np.float32(1), np.int8(1), np.array(1.0), fractions.Fraction(1)],
    ids=repr,
)
def test_numbers(value):
    found = as_number("rate", value, 0, 2)
    assert found == 1
    assert type(found) is float


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), 1e400])
def test_numbers_that_are_not_finite(value):
    with refused("rate must be a finite number", str(value)):
        as_number("rate", value)


@pytest.mark.parametrize(
    ("bounds", "wanted", "inside", "outside"),
    [
        ({"low": 0}, "at least 0", [0, 1e300], [-1e-300, -1]),
        ({"high": 1}, "at most 1", [1, -1e300], [1.0000001]),
        ({"low": 0, "open_low": True}, "above 0", [1e-300], [0, -0.0, -1]),
        ({"high": 1, "open_high": True}, "below 1", [0.999], [1, 2]),
        ({"low": 0, "high": 1}, "at least 0 and at most 1", [0, 0.5, 1], [-0.1, 1.1]),
        (
            {"low": 0, "high": 1, "open_low": True, "open_high": True},
            "above 0 and below 1",
            [0.5],
            [0, 1],
        ),
    ],
)
def test_bounds_of_numbers(bounds, wanted, inside, outside):
    assert [as_number("rate", value, **bounds) for value in inside] == inside
    for value in outside:
        with refused("rate must be a finite number", wanted, f"got {value!r}"):
            as_number("rate", value, **bounds)


@pytest.mark.parametrize(
    "value",
    [True, np.True_, "0.5", b"0.5", None, 1j, [1.0, 2.0], 10**400],
    ids=lambda v: repr(v)[:9],
)
def test_values_that_are_not_numbers(value):
    with refused("rate must be a finite number of at least 0, got", error=TypeError):
        as_number("rate", value, 0)


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_], ids=repr)
def test_flags(value):
    assert as_flag("bias", value) is bool(value)


@pytest.mark.parametrize("value", [0, 1, 1.0, "True", None, [], np.array([True])], ids=repr)
def test_values_that_are_not_flags(value):
    with refused(f"bias must be True or False, got {value!r}", error=TypeError):
        as_flag("bias", value)


def test_choices():
    assert as_choice("reduction", "sum", ["mean", "sum"]) == "sum"
    for value in ("Sum", "sum ", "", None, 1, ["sum"], b"sum"):
        with refused(f"reduction must be one of 'mean', 'sum', got {value!r}"):
            as_choice("reduction", value, ["mean", "sum"])


def test_names_are_listed():
    assert listed(["a", "b"]) == "'a', 'b'"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("huber", cnet.Huber()),
        ("huber(0.5)", cnet.Huber(0.5)),
        ("huber( 2 )", cnet.Huber(2)),
        ("quantile(0.9)", cnet.Quantile(0.9)),
        (cnet.Quantile(0.1), cnet.Quantile(0.1)),
    ],
)
def test_settings(value, expected):
    assert as_settings("loss", value, cnet.Loss, LOSSES) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "hube",
        "Huber",
        "huber(",
        "huber(,)",
        "huber(1",
        "huber 1)",
        "huber(x)",
        "huber(1))",
        "huber(print(1))",
        None,
        1,
        cnet.Huber,
        cnet.SGD(),
        b"huber",
    ],
    ids=repr,
)
def test_values_that_are_not_settings(value):
    with refused(f"loss must be one of {listed(LOSSES)}", "cnet.Loss object", f"got {value!r}"):
        as_settings("loss", value, cnet.Loss, LOSSES)


def test_settings_check_their_own_numbers():
    with refused("delta must be a finite number above 0, got -1"):
        as_settings("loss", "huber(-1)", cnet.Loss, LOSSES)


# The same checks through the API


@pytest.mark.parametrize("input_layer", [True, False])
@pytest.mark.parametrize("value", [0, -1, 2**31, 2**62, -(2**62)])
def test_sizes_out_of_range(net, input_layer, value):
    if input_layer:
        net = cnet.NeuralNetwork()
    with refused("num_neurons", "at least 1", "at most 2147483647", f"got {value}", of=[net]):
        net.add_layer(value, input_layer=input_layer)


@pytest.mark.parametrize("value", [True, 3.0, "3", None], ids=repr)
def test_sizes_that_are_not_integers(net, value):
    with refused("num_neurons must be an integer", f"got {value!r}", error=TypeError, of=[net]):
        net.add_layer(value)


@pytest.mark.parametrize("argument", ["n_inputs", "n_neurons"])
@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (2**62, ValueError), (True, TypeError), (2.0, TypeError)]
)
def test_sizes_of_layer_objects(argument, value, error):
    with refused(f"{argument} must be an integer of at least 1", f"got {value!r}", error=error):
        cnet.Layer(**{"n_inputs": 1, "n_neurons": 1, argument: value})


@pytest.mark.parametrize(
    ("argument", "value", "error", "words"),
    [
        ("learning_rate", -0.1, ValueError, ["at least 0", "got -0.1"]),
        ("learning_rate", math.nan, ValueError, ["finite", "got nan"]),
        ("learning_rate", math.inf, ValueError, ["finite", "got inf"]),
        ("learning_rate", "0.1", TypeError, ["finite number", "got '0.1'"]),
        ("learning_rate", True, TypeError, ["finite number", "got True"]),
        ("learning_rate", [0.1, 0.2], TypeError, ["finite number", "got [0.1, 0.2]"]),
        ("epochs", -1, ValueError, ["an integer of at least 0", "got -1"]),
        ("epochs", 1.0, TypeError, ["an integer of at least 0", "got 1.0"]),
        ("epochs", True, TypeError, ["an integer", "got True"]),
        ("epochs", None, TypeError, ["an integer", "got None"]),
        ("epochs", "10", TypeError, ["an integer", "got '10'"]),
        ("batch_size", 0, ValueError, ["an integer of at least 1", "got 0"]),
        ("batch_size", -5, ValueError, ["an integer of at least 1", "got -5"]),
        ("batch_size", 2.0, TypeError, ["an integer", "got 2.0"]),
        ("batch_size", False, TypeError, ["an integer", "got False"]),
        ("optimizer", "sdg", ValueError, [listed(OPTIMIZERS), "cnet.Optimizer", "got 'sdg'"]),
        ("optimizer", cnet.Adam, ValueError, [listed(OPTIMIZERS), "Adam"]),
        ("optimizer", "adam(-1)", ValueError, ["learning_rate", "at least 0", "got -1"]),
        ("loss", "square", ValueError, [listed(LOSSES), "cnet.Loss", "got 'square'"]),
        ("loss", cnet.Huber, ValueError, [listed(LOSSES), "Huber"]),
        ("loss", "quantile(1)", ValueError, ["q must", "above 0 and below 1", "got 1"]),
        ("reduction", "max", ValueError, ["'mean', 'sum'", "got 'max'"]),
        ("reduction", None, ValueError, ["'mean', 'sum'", "got None"]),
        ("shuffle", 1, TypeError, ["True or False", "got 1"]),
        ("shuffle", None, TypeError, ["True or False", "got None"]),
        ("verbose", "yes", TypeError, ["True, False or", "got 'yes'"]),
        ("callbacks", 3, TypeError, ["cnet.Callback objects or functions", "got 3"]),
        ("callbacks", "print", TypeError, ["cnet.Callback objects or functions", "got 'p'"]),
        ("callbacks", [print, None], TypeError, ["cnet.Callback objects", "got None"]),
        ("callbacks", cnet.Callback, TypeError, ["cnet.Callback objects", "Callback"]),
        ("callbacks", [cnet.Callback], TypeError, ["cnet.Callback objects", "Callback"]),
    ],
)
def test_settings_of_train(net, argument, value, error, words):
    name = "" if "(" in str(value) else f"{argument} must be"
    with refused(name, *words, error=error, of=[net]):
        net.train(X, Y, **{argument: value})


@pytest.mark.parametrize(
    ("call", "argument", "error"),
    [
        (lambda net: net.evaluate(X, Y, reduction="none"), "reduction", ValueError),
        (lambda net: net.evaluate(X, Y, loss="none"), "loss", ValueError),
        (lambda net: net.loss_and_gradient(X, Y, reduction=1), "reduction", ValueError),
        (lambda net: net.input_gradient(X, Y, loss=0), "loss", ValueError),
        (lambda net: net.backward_propagate(X[0], 1, -1), "learning_rate", ValueError),
        (lambda net: net.backward_propagate(X[0], 1, None), "learning_rate", TypeError),
        (lambda net: net.add_layer(1, "sigmoyd"), "activation", ValueError),
        (lambda net: net.add_layer(1, None), "activation", ValueError),
        (lambda net: net.add_layer(1, init="random"), "init", ValueError),
        (lambda net: net.add_layer(1, init=np.zeros((2, 1))), "init", ValueError),
        (lambda net: net.add_layer(1, bias=1), "bias", TypeError),
        (lambda net: net.add_layer(1, bias=None), "bias", TypeError),
        (lambda net: net.add_layer(1, name=1), "name", TypeError),
        (lambda net: net.add_layer(1, input_layer="yes"), "input_layer", TypeError),
    ],
)
def test_settings_of_other_methods(net, call, argument, error):
    with refused(f"{argument} must be", "got", error=error, of=[net]):
        call(net)


def test_messages_list_the_known_names(net):
    for call, known in [
        (lambda: net.add_layer(1, "?"), ACTIVATIONS),
        (lambda: net.add_layer(1, init="?"), ["auto", *INITIALIZERS]),
        (lambda: net.train(X, Y, loss="?"), ["auto", *LOSSES]),
        (lambda: net.train(X, Y, optimizer="?"), OPTIMIZERS),
    ]:
        with refused(f"must be one of {listed(known)}", "got '?'", of=[net]):
            call()


@pytest.mark.parametrize(
    "dtype", ["float16", "int32", np.complex64, "double!", None, ">f4", object, 7], ids=repr
)
def test_unknown_dtypes(dtype):
    with refused("dtype must be 'float32' or 'float64', got", repr(dtype)):
        cnet.NeuralNetwork(dtype=dtype)


@pytest.mark.parametrize(
    "dtype", [np.float64, "float64", "f8", "d", float, np.dtype("=f8")], ids=repr
)
def test_dtypes(dtype):
    assert cnet.NeuralNetwork(dtype=dtype).dtype == np.float64


@pytest.mark.parametrize("seed", ["zero", -1, 1.5, [1, -2]], ids=repr)
def test_unknown_seeds(seed):
    with refused("seed must be", "numpy.random.Generator", f"got {seed!r}"):
        cnet.NeuralNetwork(seed=seed)


def test_layers_must_be_layers():
    for wrong in (3, cnet.Layer, "sigmoid"):
        with refused(
            "layers must be cnet layers, passed one by one, got", repr(wrong), error=TypeError
        ):
            cnet.NeuralNetwork(cnet.Layer(2, 3), wrong)


@pytest.mark.parametrize(
    ("output", "loss", "fitting"),
    [
        ("softmax", "binary_cross_entropy", "'cross_entropy'"),
        ("sigmoid", "cross_entropy", "'binary_cross_entropy'"),
        ("linear", "poisson", "'huber'"),
    ],
)
def test_losses_that_do_not_fit_the_output_raise(output, loss, fitting):
    net = network(2, 3, 2, output=output)
    with refused(f"loss '{loss}'", f"'{output}'", fitting, of=[net]):
        net.train(X, Y, loss=loss)


def test_sample_weight_raises_with_a_function_as_loss(net):
    def loss(y_true, y_pred):
        raise AssertionError("called")

    for method in (net.train, net.evaluate, net.loss_and_gradient, net.input_gradient):
        with refused("sample_weight must be None with a function as loss", of=[net]):
            method(X, Y, loss=loss, sample_weight=[1, 1, 1])


@pytest.mark.parametrize(
    ("setting", "value", "error", "question"),
    [
        ("optimizer", "Adam", ValueError, "; did you mean 'adam'?"),
        ("optimizer", cnet.Adam, ValueError, "; did you mean Adam()?"),
        ("loss", "cross entropy", ValueError, "; did you mean 'cross_entropy'?"),
        ("loss", "nothing like it", ValueError, "'nothing like it'"),
        ("metrics", "AUC", ValueError, "; did you mean 'auc'?"),
        ("schedule", cnet.Cosine, ValueError, "; did you mean Cosine()?"),
        ("callbacks", cnet.EarlyStopping, TypeError, "; did you mean EarlyStopping()?"),
        (
            "callbacks",
            cnet.EarlyStopping("val_auc"),
            ValueError,
            "; val_auc requires metrics='auc'",
        ),
        ("callbacks", cnet.EarlyStopping(), ValueError, "validation_data or validation_split"),
    ],
)
def test_messages_suggest_what_may_be_meant(setting, value, error, question):
    net = cnet.NeuralNetwork(cnet.Layer(2, 1), seed=0)
    with pytest.raises(error) as caught:
        net.train([[0.0, 1.0]], [1.0], verbose=False, **{setting: value})
    assert str(caught.value).endswith(question)

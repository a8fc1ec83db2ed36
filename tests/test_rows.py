"""Single rows: predictors, the fast path of predict, and learning row by row."""

import copy
import pickle
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import reference
from helpers import everything, network, refused

import cnet

DTYPES = ["float32", "float64"]
ACTIVATIONS = sorted(reference.ACTIVATIONS)
WAYS = [
    cnet.NeuralNetwork.copy,
    copy.copy,
    copy.deepcopy,
    lambda net: pickle.loads(pickle.dumps(net)),
]
way_names = pytest.mark.parametrize("way", WAYS, ids=["method", "copy", "deepcopy", "pickle"])


def same(found, expected):
    """Whether arrays are equal bit for bit, with the same dtype and shape."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def rows_of(n, width, dtype="float64", seed=1):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(dtype)


def drawn(net, seed=5):
    """Return the network with non-zero biases."""
    net.parameters[...] = np.random.default_rng(seed).uniform(-0.7, 0.7, net.parameters.shape)
    return net


# Predictors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_predictor_equals_predict_bit_for_bit(activation, dtype):
    hidden = "tanh" if activation == "softmax" else activation
    net = drawn(network(11, 37, 19, 5, hidden=hidden, output=activation, dtype=dtype))
    predictor = net.predictor()
    # One block, the end of one, several.
    for n in (1, 2, 127, 128, 129, 300):
        x = rows_of(n, 11, dtype)
        expected = net.predict(x)
        same(predictor(x), expected)
        out = np.full((n, 5), 7, dtype)
        assert predictor(x, out) is out
        same(out, expected)
        out = np.full(5, 7, dtype)
        assert predictor(x[0], out=out) is out
        same(out, expected[0])
        same(predictor(x[0]), expected[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 1), (1, 3, 1), (500, 2), (3, 100, 17, 1), (800, 700, 3)])
def test_predictors_of_other_shapes(sizes, dtype):
    net = drawn(network(*sizes, dtype=dtype))
    x = rows_of(260, sizes[0], dtype)
    x.flags.writeable = False
    expected = net.predict(x)
    predictor = net.predictor()
    same(predictor(x), expected)
    for i in (0, 259):
        same(predictor(x[i]), expected[i])
    # An independent check: against the textbook.
    np.testing.assert_allclose(
        expected, reference.Network.like(net).predict(x), rtol=1e-3 if dtype == "float32" else 1e-9
    )


def test_a_predictor_keeps_its_weights():
    net = drawn(network(4, 6, 2))
    x = rows_of(9, 4)
    expected = net.predict(x)
    predictor = net.predictor()
    assert not np.shares_memory(predictor.parameters, net.parameters)
    net.train(x, np.zeros((9, 2)), 0.5, 3, verbose=False)
    net.train_one(x[0], np.zeros(2))
    net.parameters[:3] = 0
    same(predictor(x), expected)
    net.add_layer(3)
    same(predictor(x), expected)
    del net
    same(predictor(x), expected)


def test_a_predictor_does_not_change_the_network():
    net = network(4, 6, 2)
    before = everything(net)
    net.predictor()(rows_of(9, 4))
    assert everything(net) == before


def test_a_predictor_requires_layers():
    with refused("add_layer"):
        cnet.NeuralNetwork().predictor()


def swapped(x):
    return x.astype(x.dtype.newbyteorder())


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    result = raw[1:].view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


BAD_ARRAYS = {
    "list": lambda x: x.tolist(),
    "subclass": lambda x: x.view(np.recarray),
    "float64": lambda x: x.astype("float64"),
    "integers": lambda x: x.astype("int32"),
    "swapped": swapped,
    "unaligned": unaligned,
    "by columns": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2],
    "reversed": lambda x: x[::-1],
    "wide": lambda x: np.zeros((len(x), x.shape[1] + 1), x.dtype),
    "narrow": lambda x: np.zeros((len(x), x.shape[1] - 1), x.dtype),
    "flat": lambda x: x.reshape(-1),
    "3 dimensions": lambda x: x[np.newaxis],
    "a number": lambda x: x[0, 0],
    "0 dimensions": lambda x: x[0, 0].reshape(()),
}


@pytest.mark.parametrize("spoil", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_invalid_inputs_of_a_predictor_raise(spoil):
    predictor = network(4, 3, dtype="float32").predictor()
    x = spoil(rows_of(6, 4, "float32"))
    error = ValueError if type(x) is np.ndarray else TypeError
    out = np.full((6, 3), 7, "float32")
    words = "x must be", "C-contiguous", "float32", "(4,) or (n, 4)", "got"
    with refused(*words, error=error):
        predictor(x)
    with refused(*words, error=error):
        predictor(x, out)
    assert (out == 7).all()
    # The predictor still works.
    assert predictor(np.zeros(4, "float32")).shape == (3,)


BAD_OUTPUTS = {
    **BAD_ARRAYS,
    "one row less": lambda out: out[:-1],
    "one row more": lambda out: np.concatenate([out, out[:1]]),
    "transposed": lambda out: np.ascontiguousarray(out.T),
    "one row": lambda out: out[0],
    "read-only": lambda out: np.frombuffer(out.tobytes(), out.dtype).reshape(out.shape),
    "text": lambda out: "out",
}


@pytest.mark.parametrize("spoil", BAD_OUTPUTS.values(), ids=BAD_OUTPUTS)
def test_invalid_outputs_of_a_predictor_raise(spoil):
    predictor = network(4, 3, dtype="float32").predictor()
    out = spoil(np.full((6, 3), 7, "float32"))
    error = ValueError if type(out) is np.ndarray else TypeError
    words = "out must be", "C-contiguous", "writable", "float32", "(3,) or (n, 3)", "as many rows"
    before = np.array(out)
    with refused(*words, error=error):
        predictor(rows_of(6, 4, "float32"), out)
    np.testing.assert_array_equal(np.array(out), before)


def test_a_predictor_distinguishes_a_row_from_a_matrix_of_one_row():
    predictor = network(4, 3).predictor()
    for x, out in [(np.zeros(4), np.zeros((1, 3))), (np.zeros((1, 4)), np.zeros(3))]:
        with refused("out must be", out.shape):
            predictor(x, out)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_predictor_propagates_nan_within_a_row(activation, dtype):
    hidden = "relu" if activation == "softmax" else activation
    net = drawn(network(5, 9, 3, hidden=hidden, output=activation, dtype=dtype))
    predictor = net.predictor()
    x = rows_of(200, 5, dtype)
    expected = predictor(x)
    bad = [0, 31, 199]
    x[bad, 2] = np.nan
    found = predictor(x)
    assert np.isnan(found[bad]).all()
    assert np.isnan(predictor(x[31])).all()
    good = np.delete(np.arange(200), bad)
    same(found[good], expected[good])


@pytest.mark.parametrize("n", [1, 700])
def test_a_predictor_allocates_only_its_outputs(n):
    net = network(100, 80, 30, dtype="float32")
    x, predictor = rows_of(n, 100, "float32"), net.predictor()
    x = x[0] if n == 1 else x
    out = predictor(x)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(50):
            predictor(x, out)
        filled = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.reset_peak()
        for _ in range(50):
            predictor(x)
        made = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # The loop counter and an array object.
    assert filled < 200
    assert out.nbytes <= made < out.nbytes + 500


def test_a_predictor_serves_one_thread_at_a_time():
    predictor = network(300, 300, 300).predictor()
    x = rows_of(4000, 300)
    expected = predictor(x)
    found = []
    other = threading.Thread(target=lambda: found.extend(predictor(x) for _ in range(3)))
    other.start()
    # Its calls release the GIL, so that this thread can interfere.
    refusals = 0
    while other.is_alive() and refusals == 0:
        try:
            same(predictor(x[0]), expected[0])
        except RuntimeError as error:
            refusals += "another thread" in str(error)
    other.join()
    assert refusals
    assert len(found) == 3
    for outputs in found:
        same(outputs, expected)
    same(predictor(x[0]), expected[0])


# Predict, for one row


LAYOUTS = {
    "contiguous": lambda row: row.copy(),
    "strided": lambda row: np.repeat(row, 3)[::3],
    "reversed": lambda row: row[::-1].copy()[::-1],
    "a column": lambda row: np.tile(row[:, np.newaxis], 4)[:, 2],
    "read-only": lambda row: np.frombuffer(row.tobytes(), row.dtype),
    "swapped": swapped,
    "unaligned": unaligned,
    "list": lambda row: row.tolist(),
    "tuple": lambda row: tuple(row.tolist()),
    "list of NumPy's": list,
    "subclass": lambda row: row.view(np.recarray),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_row_alone_equals_the_row_in_a_batch(activation, dtype):
    hidden = "tanh" if activation == "softmax" else activation
    for sizes in [(1, 1), (1, 5, 2), (7, 33, 1), (13, 9, 17, 3), (450, 64, 100)]:
        net = drawn(network(*sizes, hidden=hidden, output=activation, dtype=dtype))
        x = rows_of(5, sizes[0], dtype) / np.sqrt(sizes[0])
        expected = net.predict(x)
        # The first call, which prepares the others, and the others.
        for i in (0, 1, 2, 3, 4, 0):
            same(net.predict(x[i]), expected[i])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", ["float32", "float64", "float16", "longdouble", "int8", "int64"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_of_every_layout(layout, given, dtype):
    net = drawn(network(6, 5, 2, dtype=dtype))
    values = (rows_of(4, 6) * 30).astype(given)
    expected = net.predict(values)
    for i in (0, 1, 2, 3):
        row = layout(values[i])
        before = np.array(row)
        same(net.predict(row), expected[i])
        np.testing.assert_array_equal(np.array(row), before)
        same(net.forward_propagate(row), expected[i])


BAD_ROWS = [
    ([1, np.nan, 3], ["x must not have NaN or infinite values", "nan", "x[0, 1]"]),
    ([np.inf, 2, 3], ["x must not have NaN or infinite values", "inf", "x[0, 0]"]),
    ([1, 2, -1e300], ["x must fit float32", "-1e+300", "x[0, 2]"]),
    ([1, 2], ["3 columns", "(2,)"]),
    ([1, 2, 3, 4], ["3 columns", "(4,)"]),
    ([], ["empty"]),
    ([[[1, 2, 3]]], ["1 or 2 dimensions", "(1, 1, 3)"]),
    (1.5, ["1 or 2 dimensions", "()"]),
    (["1", "2", "3"], ["real numbers", "text"]),
    ([1j, 2, 3], ["real numbers", "complex"]),
]


@pytest.mark.parametrize(("row", "words"), BAD_ROWS)
def test_invalid_rows_raise_on_every_call(row, words):
    net = network(3, 4, 2, dtype="float32")
    for _ in range(3):
        for bad in (row, np.array(row)):
            with refused(*words, of=[net]):
                net.predict(bad)
        assert net.predict(np.ones(3)).shape == (2,)


@pytest.mark.parametrize("method", ["predict", "train_one"])
def test_a_number_as_a_row_raises_on_every_call(method):
    net = network(1, 2, 1)
    call = {"predict": net.predict, "train_one": lambda x: net.train_one(x, 0.5)}[method]
    for _ in range(3):
        with refused("1 or 2 dimensions", "()", of=[net]):
            call(1.5)
        call([1.5])
        call(np.array([1.5]))


def test_predicting_a_row_requires_layers():
    with refused("add_layer"):
        cnet.NeuralNetwork().predict([1.0])


def test_predict_uses_changed_weights():
    net = drawn(network(3, 4, 2))
    x = rows_of(5, 3)
    y = np.zeros((5, 2))
    changes = [
        lambda: net.parameters.fill(0.25),
        lambda: setattr(net.layers[0], "weights", rows_of(3, 4)),
        lambda: net.layers[1].biases.__setitem__(0, 3.0),
        lambda: net.train(x, y, 0.5, 2, verbose=False),
        lambda: net.train_one(x[0], y[0]),
        lambda: net.train_one(x[1], y[1]),
        lambda: net.backward_propagate(x[2], y[2], 0.5),
        lambda: net.add_layer(3, "tanh"),
        lambda: net.add_layer(1),
    ]
    last = net.predict(x[0])
    for change in changes:
        change()
        found = net.predict(x[0])
        same(found, net.predict(x)[0])
        assert found.tobytes() != last.tobytes()
        last = found


@way_names
def test_a_copy_predicts_rows_with_its_own_weights(way):
    net = drawn(network(3, 4, 2))
    row = np.ones(3)
    expected = net.predict(row)
    twin = way(net)
    same(twin.predict(row), expected)
    same(twin.predict(row), expected)
    twin.parameters.fill(0)
    same(twin.predict(row), np.full(2, 0.5))
    same(net.predict(row), expected)
    net.parameters.fill(1)
    same(twin.predict(row), np.full(2, 0.5))


def test_predicted_rows_do_not_share_memory_with_the_network():
    net = network(3, 4, 2)
    net.predict(np.ones(3))
    first = net.predict(np.ones(3))
    copied = first.copy()
    second = net.predict(np.zeros(3))
    assert not np.shares_memory(first, second)
    same(first, copied)
    assert first.flags.writeable
    assert first.flags.owndata


# Learning from one row


OPTIMIZERS = [
    "sgd",
    cnet.SGD(momentum=0.9, nesterov=True),
    cnet.SGD(weight_decay=0.01, clip_value=0.05),
    cnet.SGD(clip_norm=0.05),
    "adam",
    cnet.Adam(clip_norm=0.05),
    "adamw",
    cnet.RMSprop(centered=True, momentum=0.5),
    "adagrad",
    "rprop",
]
# Loss, output, and a function that makes targets from numbers between 0 and 1.
LOSSES = {
    "squared_error": ("tanh", lambda y: y),
    "absolute_error": ("linear", lambda y: y),
    "huber": ("linear", lambda y: 3 * y),
    "quantile(0.3)": ("softsign", lambda y: y),
    "binary_cross_entropy": ("sigmoid", lambda y: y),
    "cross_entropy": ("softmax", lambda y: y / y.sum(axis=1, keepdims=True)),
    "poisson": ("exp", lambda y: np.round(4 * y)),
}


def trained_state(net):
    """Return the complete state after training, except for the history."""
    return everything([net.parameters, net.trainer.state, net.trainer.loss, net.trainer.rng])


def learn_both_ways(one, other, x, y, *arguments, **settings):
    """Make one step with each method and compare the complete state. Return the loss."""
    loss = one.train_one(x, y, *arguments, **settings)
    history = other.train(
        np.atleast_2d(x), [y], *arguments, epochs=1, shuffle=False, verbose=False, **settings
    )
    assert type(loss) is float
    assert [loss] == history["loss"]
    assert trained_state(one) == trained_state(other)
    return loss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_train_one_makes_the_step_of_train(optimizer, loss, dtype):
    output, make_targets = LOSSES[loss]
    one, other = [drawn(network(5, 9, 4, 3, output=output, dtype=dtype)) for _ in range(2)]
    x = rows_of(25, 5)
    y = make_targets(np.random.default_rng(2).random((25, 3)))
    for i in range(25):
        given = (x[i].astype(dtype), y[i].astype(dtype)) if i % 2 else (x[i], y[i])
        learn_both_ways(one, other, *given, 0.01, optimizer=optimizer, loss=loss)
    # Steps of both kinds, and of many rows, from the same state.
    for net in (one, other):
        net.train(x, y, 0.02, 2, batch_size=4, verbose=False)
    learn_both_ways(one, other, x[1], y[1], 0.02)
    learn_both_ways(one, other, x[2], y[2], 0.02)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "rprop"])
def test_train_one_against_numpy(name):
    net = drawn(network(4, 6, 2))
    textbook = reference.Network.like(net)
    optimizer = reference.OPTIMIZERS[name](0.01)
    x, y = rows_of(20, 4), np.random.default_rng(2).random((20, 2))
    for i in range(20):
        loss = net.train_one(x[i], y[i], 0.01, optimizer=name)
        (expected,) = textbook.train(
            optimizer, x[i : i + 1], y[i : i + 1], reference.squared_error, batch_size=1, epochs=1
        )
        np.testing.assert_allclose(loss, expected, rtol=1e-9)
    np.testing.assert_allclose(net.parameters, textbook.parameters, rtol=1e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("sizes", [(1, 1), (700, 500, 2), (3, 1, 40, 2)])
def test_train_one_of_other_shapes(sizes, optimizer):
    """The second network is large enough to release the GIL, and for `train` to use several threads."""
    one, other = [drawn(network(*sizes, dtype="float32")) for _ in range(2)]
    x, y = rows_of(4, sizes[0]) / np.sqrt(sizes[0]), np.full((4, sizes[-1]), 0.25)
    with cnet.num_threads(2):
        for i in range(4):
            learn_both_ways(one, other, x[i], y[i], 0.01, optimizer=optimizer)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_labels_for_train_one(loss, dtype):
    forms = [
        lambda label: label,
        np.int64,
        np.uint8,
        float,
        np.float32,
        np.array,
        lambda label: [label],
        lambda label: np.array([label]),
        lambda label: np.array([label], dtype),
        lambda label: np.eye(3)[label],
        lambda label: np.eye(3, dtype=np.float32)[label],
        lambda label: np.eye(3, dtype=int)[label],
        lambda label: np.eye(3)[label].tolist(),
    ]
    x = rows_of(12, 4)
    nets = [drawn(network(4, 5, 3, output="softmax", dtype=dtype)) for _ in forms]
    other = drawn(network(4, 5, 3, output="softmax", dtype=dtype))
    for i in range(12):
        losses = [
            net.train_one(x[i], form(i % 3), 0.1, loss=loss)
            for net, form in zip(nets, forms, strict=True)
        ]
        assert [losses[0]] * len(forms) == losses
        other.train(x[i : i + 1], [i % 3], 0.1, 1, loss=loss, shuffle=False, verbose=False)
    assert {trained_state(net)[0] for net in nets} == {trained_state(other)[0]}


@pytest.mark.parametrize("rounded", [0.5, 0.5004])
def test_probabilities_for_train_one(rounded):
    one, other = [network(4, 5, 3, output="softmax") for _ in range(2)]
    for row in rows_of(5, 4):
        learn_both_ways(one, other, row, np.array([rounded, 0.2, 0.3]), 0.1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_of_a_single_output_for_train_one(dtype):
    forms = [
        float,
        np.float64,
        np.float32,
        np.array,
        lambda y: [y],
        lambda y: np.array([y]),
        lambda y: np.array([y], np.float32),
        lambda y: [[y]],
    ]
    nets = [drawn(network(4, 5, 1, dtype=dtype)) for _ in range(len(forms) + 1)]
    *given, other = nets
    for i, row in enumerate(rows_of(6, 4)):
        y = i / 8
        losses = [net.train_one(row, form(y), 0.1) for net, form in zip(given, forms, strict=True)]
        assert [losses[0]] * len(forms) == losses
        other.train([row], [y], 0.1, 1, shuffle=False, verbose=False)
    assert {trained_state(net)[0] for net in nets} == {trained_state(other)[0]}
    # Also as an integer.
    assert given[0].train_one(rows_of(1, 4)[0], 1) == given[1].train_one(rows_of(1, 4)[0], 1.0)


ROW_LAYOUTS = {**LAYOUTS, "a matrix of one row": lambda row: row[np.newaxis].copy()}


@pytest.mark.parametrize("given", ["float32", "float64", "int64"])
@pytest.mark.parametrize("layout", ROW_LAYOUTS.values(), ids=ROW_LAYOUTS)
def test_layouts_for_train_one(layout, given):
    one, other = [drawn(network(6, 5, 2, output="linear", dtype="float32")) for _ in range(2)]
    x, y = (rows_of(4, 6) * 3).astype(given), (rows_of(4, 2, seed=3) * 3).astype(given)
    for i in range(4):
        row, targets = layout(x[i]), layout(y[i])
        loss = one.train_one(row, targets, 0.01)
        history = other.train([x[i]], [y[i]], 0.01, 1, shuffle=False, verbose=False)
        assert [loss] == history["loss"]
        np.testing.assert_array_equal(np.array(row).ravel(), x[i])
        np.testing.assert_array_equal(np.array(targets).ravel(), y[i])
    assert trained_state(one) == trained_state(other)


# The defaults of train_one


ROW, TARGETS = rows_of(1, 4)[0], np.array([0.2, 0.9])


def steps_with(*calls):
    """Compare calls of train_one with the explicit settings they should be equivalent to.

    Each call is (arguments, settings, learning rate, optimizer, loss).
    """
    one, other = [drawn(network(4, 6, 2)) for _ in range(2)]
    for arguments, settings, rate, optimizer, loss in calls:
        # Twice, the second time on the fast path.
        for _ in range(2):
            found = one.train_one(ROW, TARGETS, *arguments, **settings)
            history = other.train(
                [ROW],
                [TARGETS],
                rate,
                1,
                optimizer=optimizer,
                loss=loss,
                shuffle=False,
                verbose=False,
            )
            assert [found] == history["loss"], (arguments, settings)
            assert trained_state(one) == trained_state(other), (arguments, settings)


def test_defaults_of_train_one():
    huber = cnet.Huber(0.3)
    momentum = cnet.SGD(0.07, momentum=0.9)
    steps_with(
        ((), {}, 1e-3, "sgd", "auto"),
        ((0.5,), {}, 0.5, "sgd", "auto"),
        ((), {}, 1e-3, "sgd", "auto"),
        ((), {"loss": huber}, 1e-3, "sgd", huber),
        ((), {}, 1e-3, "sgd", huber),
        ((0.2,), {}, 0.2, "sgd", huber),
        ((0.2,), {"loss": "absolute_error"}, 0.2, "sgd", "absolute_error"),
        ((0.2,), {}, 0.2, "sgd", "absolute_error"),
        ((), {"optimizer": "adam"}, 1e-3, "adam", "absolute_error"),
        ((), {}, 1e-3, "adam", "absolute_error"),
        ((0.02,), {}, 0.02, "adam", "absolute_error"),
        ((), {"optimizer": "adam"}, 1e-3, "adam", "absolute_error"),
        ((0.02,), {"optimizer": "adam"}, 0.02, "adam", "absolute_error"),
        ((), {"optimizer": momentum}, 0.07, momentum, "absolute_error"),
        ((0.05,), {"optimizer": momentum}, 0.05, momentum, "absolute_error"),
        ((), {"optimizer": momentum}, 0.07, momentum, "absolute_error"),
        ((), {"loss": "auto"}, 0.07, momentum, "auto"),
        ((0,), {}, 0, momentum, "auto"),
    )


def test_an_equal_optimizer_with_another_learning_rate():
    slow, fast = cnet.SGD(0.01), cnet.SGD(0.5)
    steps_with(
        ((), {"optimizer": slow}, 0.01, slow, "auto"),
        ((), {"optimizer": fast}, 0.5, fast, "auto"),
        ((), {"optimizer": slow}, 0.01, slow, "auto"),
    )


def test_train_one_uses_the_settings_of_the_last_training():
    for optimizer, loss, rate in [("adam", "huber", 0.03), (cnet.SGD(momentum=0.5), None, 0.2)]:
        one, other = [drawn(network(4, 6, 2)) for _ in range(2)]
        for net in (one, other):
            net.train_one(ROW, TARGETS, 0.9, optimizer="rprop")
            net.train([ROW], [TARGETS], rate, 3, optimizer=optimizer, loss=loss, verbose=False)
        for _ in range(3):
            found = one.train_one(ROW, TARGETS)
            assert [found] == other.train([ROW], [TARGETS], epochs=1, verbose=False)["loss"]
        np.testing.assert_array_equal(one.parameters, other.parameters)


def test_train_uses_the_settings_of_the_last_train_one():
    one, other = [drawn(network(4, 6, 2)) for _ in range(2)]
    one.train_one(ROW, TARGETS, 0.02, optimizer="adam", loss="huber")
    settings = {"optimizer": "adam", "loss": "huber", "shuffle": False, "verbose": False}
    other.train([ROW], [TARGETS], 0.02, 1, **settings)
    for net in (one, other):
        net.train([ROW], [TARGETS], epochs=3, verbose=False)
    assert trained_state(one) == trained_state(other)
    assert one.evaluate(ROW, TARGETS) == one.evaluate(ROW, TARGETS, loss="huber")


def test_train_one_does_not_change_the_history_and_the_random_state():
    net = network(4, 6, 2)
    history = net.train([ROW], [TARGETS], epochs=2, verbose=False)
    before = everything(net.trainer.rng)
    net.train_one(ROW, TARGETS)
    net.train_one(ROW, TARGETS)
    assert net.history is history
    assert len(history["loss"]) == 2
    assert everything(net.trainer.rng) == before


def test_train_one_after_adding_a_layer():
    one, other = [drawn(network(4, 6, 2)) for _ in range(2)]
    for net in (one, other):
        net.train_one(ROW, TARGETS, 0.3, optimizer="adam", loss="huber")
        net.train_one(ROW, TARGETS)
        net.add_layer(3, "softmax")
    # The default rate and loss of a new network.
    for label in (2, 0, 1):
        learn_both_ways(one, other, ROW, label, optimizer="adam")


@way_names
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_copy_learns_rows_on_its_own(way, optimizer):
    net = drawn(network(4, 6, 2))
    for _ in range(3):
        net.train_one(ROW, TARGETS, 0.1, optimizer=optimizer)
    twin = way(net)
    before = trained_state(net)
    losses = [twin.train_one(ROW, TARGETS) for _ in range(3)]
    assert trained_state(net) == before
    assert [net.train_one(ROW, TARGETS) for _ in range(3)] == losses
    assert trained_state(net) == trained_state(twin)


# Invalid arguments of train_one


def accept(net):
    """Make a step on the slow path, after which the fast path is available."""
    net.train_one(np.zeros(net.layers[0].n_inputs), np.eye(net.layers[-1].n_neurons)[0])


# Arrays of floats, because lists never take the fast path.
ONE_HOT = np.array([0.0, 1.0])
REFUSED = {
    "several rows": (np.zeros((2, 3)), np.eye(2), {}, ["x must be a single row", 2]),
    "no row": (np.zeros((0, 3)), np.eye(2), {}, ["x is empty"]),
    "wide x": (np.zeros(4), ONE_HOT, {}, ["x must have 3 columns", "(4,)"]),
    "narrow x": (np.zeros(2), ONE_HOT, {}, ["x must have 3 columns", "(2,)"]),
    "3 dimensions": (np.zeros((1, 1, 3)), ONE_HOT, {}, ["1 or 2 dimensions"]),
    "nan in x": (np.array([0, np.nan, 0]), ONE_HOT, {}, ["x must not have NaN", "x[0, 1]"]),
    "inf in x": (np.array([0, 0, -np.inf]), ONE_HOT, {}, ["x must not have NaN", "x[0, 2]"]),
    "huge x": (np.array([0, 0, 1e39]), ONE_HOT, {}, ["x must fit float32"]),
    "text in x": (["a", "b", "c"], ONE_HOT, {}, ["x must be an array of real numbers"]),
    "wide y": (np.zeros(3), np.array([0, 0, 1.0]), {}, ["y must have 1 row", "(3,)"]),
    "nan in y": (np.zeros(3), np.array([0, np.nan]), {}, ["y must not have NaN", "y[0, 1]"]),
    "huge y": (np.zeros(3), np.array([0, 1e39]), {}, ["y must fit float32"]),
    "two targets": (np.zeros(3), np.eye(2), {}, ["y must have 1 row"]),
    "no target": (np.zeros(3), [], {}, ["y is empty"]),
    "label -1": (np.zeros(3), -1, {}, ["labels from 0 to 1", "got -1"]),
    "label 2": (np.zeros(3), 2, {}, ["labels from 0 to 1", "got 2"]),
    "huge label": (np.zeros(3), 2**62, {}, ["labels from 0 to 1", "got 4.61"]),
    "label 0.5": (np.zeros(3), 0.5, {}, ["labels from 0 to 1", "got 0.5"]),
    "text as rate": (np.zeros(3), ONE_HOT, {"learning_rate": "1"}, ["learning_rate"], TypeError),
    "negative rate": (np.zeros(3), ONE_HOT, {"learning_rate": -0.1}, ["learning_rate", "-0.1"]),
    "nan as rate": (np.zeros(3), ONE_HOT, {"learning_rate": np.nan}, ["learning_rate", "nan"]),
    "optimizer": (np.zeros(3), ONE_HOT, {"optimizer": "newton"}, ["optimizer", "'newton'"]),
    "loss": (np.zeros(3), ONE_HOT, {"loss": "hinge"}, ["loss", "'hinge'"]),
    "loss of another output": (np.zeros(3), ONE_HOT, {"loss": "poisson"}, ["loss 'poisson'"]),
}


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_invalid_arguments_of_train_one_raise(case, output):
    x, y, settings, words, *error = case
    net = drawn(network(3, 4, 2, output=output, dtype="float32"))
    for _ in range(3):
        with refused(*words, of=[net], error=error[0] if error else ValueError):
            net.train_one(x, y, **settings)
        accept(net)
    net.train_one(np.zeros(3), [0, 1], optimizer="adam")
    with refused(*words, of=[net], error=error[0] if error else ValueError):
        net.train_one(x, y, **settings)


@pytest.mark.parametrize(
    ("output", "loss", "y", "words"),
    [
        ("sigmoid", "binary_cross_entropy", [0.5, 1.5], ["at most 1", "1.5"]),
        ("sigmoid", "binary_cross_entropy", [-0.5, 1], ["at least 0", "-0.5"]),
        ("exp", "poisson", [3, -1], ["at least 0", "-1"]),
        ("softmax", "cross_entropy", [0.5, 0.4], ["sum to 1", "0.9"]),
        ("softmax", "cross_entropy", [1.5, -0.5], ["at least 0", "-0.5"]),
        ("softmax", "cross_entropy", [0, 0], ["sum to 1", "0"]),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_out_of_range_for_train_one(output, loss, y, words, dtype):
    net = drawn(network(3, 4, 2, output=output, dtype=dtype))
    for _ in range(3):
        for bad in (y, np.array(y, np.float64), np.array(y, np.float32)):
            with refused(*words, of=[net]):
                net.train_one(np.zeros(3), bad, loss=loss)
        net.train_one(np.zeros(3), np.array([0.0, 1.0]), loss=loss)


def test_a_softmax_of_one_output_for_train_one():
    net = network(3, 1, output="softmax")
    for _ in range(3):
        with refused("sum to 1", "0.5", of=[net]):
            net.train_one(np.zeros(3), np.array([0.5]))
        net.train_one(np.zeros(3), np.array([1.0]))


def test_train_one_requires_layers():
    with refused("add_layer"):
        cnet.NeuralNetwork().train_one([1.0], [1.0])


def test_train_one_with_a_function_as_loss():
    def half_square(y_true, y_pred):
        return 0.5 * float(((y_pred - y_true) ** 2).sum()), y_pred - y_true

    net, twin = network(4, 2), network(4, 2)
    net.train([ROW], [TARGETS], 0.1, 1, loss=half_square, verbose=False)
    twin.train([ROW], [TARGETS], 0.1, 1, verbose=False)
    for _ in range(3):
        assert net.train_one(ROW, TARGETS) == pytest.approx(twin.train_one(ROW, TARGETS), rel=1e-12)
    assert net.train_one(ROW, TARGETS, loss="huber") > 0


def test_pickling_after_a_function_as_loss_in_train_one():
    net = network(4, 2)
    net.train_one(ROW, TARGETS, loss=lambda t, a: (0.0, a - t))
    same(pickle.loads(pickle.dumps(net)).predict(ROW), net.predict(ROW))


def test_a_function_as_loss_that_raises_in_train_one():
    def broken(y_true, y_pred):
        raise ZeroDivisionError("broken")

    net = network(4, 2)
    net.train_one(ROW, TARGETS, 0.1)
    before = net.parameters.copy()
    with pytest.raises(ZeroDivisionError, match="broken"):
        net.train_one(ROW, TARGETS, loss=broken)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.train_one(ROW, TARGETS) > 0  # with the previous loss


@pytest.mark.parametrize("loss", [np.inf, np.nan])
def test_a_function_as_loss_that_diverges_in_train_one(loss):
    net = network(4, 2)
    before = net.parameters.copy()
    with pytest.raises(cnet.DivergenceError):
        net.train_one(ROW, TARGETS, loss=lambda t, a: (loss, a))
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("calls_before", [0, 1, 3])
@pytest.mark.parametrize(
    ("optimizer", "loss", "rate", "scale"),
    [
        ("sgd", "squared_error", 0.1, 1e160),  # the loss is infinite
        ("sgd", "absolute_error", 1e200, 1e200),  # a weight would be infinite
        ("adam", "absolute_error", 0.1, 1e200),  # a moment would be infinite
        ("adam", "squared_error", 0.1, 1e160),
    ],
)
def test_divergence_of_train_one(optimizer, loss, rate, scale, calls_before):
    net = drawn(network(4, 2, output="linear", bias=False))
    settings = {"optimizer": optimizer, "loss": loss}
    for _ in range(calls_before):
        # Steps that change nothing, after which the fast path is available.
        net.train_one(np.zeros(4), TARGETS, rate, **settings)
    before = net.parameters.copy()
    for _ in range(2):
        with pytest.raises(cnet.DivergenceError, match="weights are unchanged") as caught:
            net.train_one(scale * ROW, TARGETS, rate, **settings)
        same(net.parameters, before)
        assert f"{rate:g}" in str(caught.value)
        assert caught.value.epoch == 0
        assert caught.value.history == {"loss": []}
    # The optimizer's state has been reset.
    fresh = network(4, 2, output="linear", bias=False)
    fresh.parameters[...] = before
    for _ in range(3):
        found = net.train_one(ROW, TARGETS, 0.1, **settings)
        assert found == fresh.train_one(ROW, TARGETS, 0.1, **settings)
    same(net.parameters, fresh.parameters)
    assert net.parameters.tobytes() != before.tobytes()


def test_train_one_while_another_thread_trains():
    net = drawn(network(4, 6, 2))
    net.train_one(ROW, TARGETS)
    net.train_one(ROW, TARGETS)
    inside, done = threading.Event(), threading.Event()

    def wait(network, epoch, logs):
        inside.set()
        return done.wait(20)

    arguments = {"epochs": 1, "callbacks": [wait], "verbose": False}
    other = threading.Thread(target=net.train, args=([ROW], [TARGETS]), kwargs=arguments)
    other.start()
    try:
        assert inside.wait(20)
        for settings in ({}, {}, {"learning_rate": 0.5}, {"optimizer": "adam"}):
            with refused("being trained already", error=RuntimeError, of=[net]):
                net.train_one(ROW, TARGETS, **settings)
        # Reading is allowed.
        same(net.predict(ROW), net.predict([ROW])[0])
    finally:
        done.set()
        other.join()
    assert net.train_one(ROW, TARGETS) > 0


def test_train_while_another_thread_learns_a_row():
    """The fast path holds the lock too."""
    net = drawn(network(4, 6, 2))
    net.train_one(ROW, TARGETS)
    committed = net.trainer.committed
    learner = committed.row_step.learner
    met = []

    def during(x, y):
        with refused("being trained already", error=RuntimeError):
            net.train([ROW], [TARGETS], verbose=False)
        with refused("being trained already", error=RuntimeError):
            net.train_one(ROW, TARGETS, 0.5)
        met.append(True)
        return learner(x, y)

    net.trainer.committed = replace(committed, row_step=replace(committed.row_step, learner=during))
    assert net.train_one(ROW, TARGETS) > 0
    assert met == [True]
    assert not net.trainer.is_training


def test_train_one_on_the_networks_own_weights():
    """They are read before they change."""
    one, other = [drawn(network(4, 4, output="linear")) for _ in range(2)]
    for _ in range(3):
        x, y = one.parameters[:4], one.parameters[8:12]
        copied = x.copy(), y.copy()
        assert one.train_one(x, y, 0.1) == other.train_one(*copied, 0.1)
        same(one.parameters, other.parameters)


# Equality of a row alone and in a batch


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["softplus", "sigmoid", "tanh", "elu", "exp"])
def test_equal_rows_of_a_batch_have_equal_outputs(activation, dtype):
    """The compiler may compute the remainder of a vector loop with a different sequence of roundings."""
    net = cnet.NeuralNetwork(cnet.Layer(1, 1, activation, bias=False), dtype=dtype)
    net.parameters[:] = 1
    values = np.random.default_rng(0).normal(scale=2, size=3000)
    for value in [-0.5400709, *values]:  # the first value has caused a difference before
        outputs = net.predict(np.full((19, 1), value, dtype))
        assert (outputs == outputs[0]).all()
        assert net.predict(np.full(1, value, dtype)) == outputs[0]


def test_the_sign_of_zero():
    net = cnet.NeuralNetwork(cnet.Layer(1, 3, "linear", bias=False))
    net.parameters[:] = -1
    assert not np.signbit(net.predict(np.zeros((2, 1)))).any()
    assert not np.signbit(net.predict(np.zeros(1))).any()
    assert not np.signbit(net.predict(np.zeros(1))).any()


# Read-only and shared memory


def test_an_unpickled_state_in_read_only_memory():
    net = network(30, 40, 2)
    net.train_one(np.ones(30), np.ones(2), optimizer="adam")
    buffers = []
    data = pickle.dumps(net, protocol=5, buffer_callback=buffers.append)
    frozen = [bytes(buffer.raw()) for buffer in buffers]
    assert frozen
    kept = [bytes(bytearray(piece)) for piece in frozen]
    twin = pickle.loads(data, buffers=frozen)
    assert twin.train_one(np.ones(30), np.ones(2)) == net.train_one(np.ones(30), np.ones(2))
    twin.train(np.ones((2, 30)), np.ones((2, 2)), epochs=2, verbose=False)
    assert frozen == kept


def test_train_one_raises_with_read_only_parameters():
    net = network(3, 2)
    net.train_one(np.ones(3), np.ones(2))
    before = net.parameters.copy()
    net.parameters.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        net.train_one(np.ones(3), np.ones(2))
    np.testing.assert_array_equal(net.parameters, before)


def test_out_of_a_predictor_can_overlap_its_inputs_only_within_a_block():
    net = network(2, 2)
    x = np.random.default_rng(0).normal(size=(2000, 2))
    wanted = net.predict(x[:-1])
    predict = net.predictor()
    with refused("out", "overlaps"):
        predict(x[:-1], out=x[1:])
    np.testing.assert_array_equal(predict(x[:-1]), wanted)
    few = x[:5].copy()  # within one block
    predict(few[:-1], out=few[1:])
    np.testing.assert_array_equal(few[1:], wanted[:4])


def test_a_read_only_out():
    out = np.empty(2)
    out.flags.writeable = False
    with refused("out", "writable", "read-only"):
        network(3, 2).predictor()(np.zeros(3), out=out)


INTERRUPTED = """
import signal
import numpy as np
import cnet

def stop(*_):
    raise InterruptedError

signal.signal(signal.SIGALRM, stop)
net = cnet.NeuralNetwork(cnet.Layer(600, 600), cnet.Layer(600, 600), seed=0)
x = np.ones((40_000, 600), np.float32)
predict = net.predictor()
wanted = predict(x[:2])
for _ in range(3):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        predict(x)
    except InterruptedError:
        print("interrupted", (predict(x[:2]) == wanted).all())
"""


def test_an_interrupted_predictor_can_be_used_again():
    found = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout == "interrupted True\n" * 3


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.int16])
def test_labels_of_any_integer_type_take_the_fast_path(kind):
    nets = [drawn(network(4, 3, output="softmax", dtype="float32")) for _ in range(2)]
    for label in (0, 2, 1, 2):
        losses = [
            net.train_one(ROW, y, 0.1) for net, y in zip(nets, (label, kind(label)), strict=True)
        ]
        assert losses[0] == losses[1]
        first, second = (net.trainer.committed.row_step.learner for net in nets)
        assert first(ROW, kind(label)) == second(ROW, label)
    with refused("labels from 0 to 2", "3", of=nets):
        nets[0].train_one(ROW, kind(3), 0.1)


@pytest.mark.parametrize("kind", [float, int, np.float32, np.float64, np.int64])
def test_numbers_of_any_type_take_the_fast_path(kind):
    nets = [drawn(network(4, 1, output="linear", dtype="float32")) for _ in range(2)]
    for target in (1, -2, 0):
        ys = (np.array([target], np.float64), kind(target))
        losses = [net.train_one(ROW, y, 0.1) for net, y in zip(nets, ys, strict=True)]
        assert losses[0] == losses[1]
        first, second = (net.trainer.committed.row_step.learner for net in nets)
        assert first(ROW, kind(target)) == second(ROW, ys[0])


def test_a_predictor_cannot_be_pickled():
    with refused("pickle the network", error=TypeError):
        pickle.dumps(network(3, 2).predictor())


def test_a_learning_rate_that_changes_from_row_to_row():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    quick, slow = (network(3, 4, 2, seed=1) for _ in range(2))
    for i, row in enumerate(rows):
        rate = 0.5 / (1 + i)
        # Lists take the slow path, which recreates everything.
        assert quick.train_one(row, row[:2], rate, optimizer="adam") == slow.train_one(
            row.tolist(), row[:2].tolist(), rate, optimizer="adam"
        )
    np.testing.assert_array_equal(quick.parameters, slow.parameters)
    with refused("learning_rate", "True", error=TypeError, of=[quick]):
        quick.train_one(rows[0], rows[0, :2], True, optimizer="adam")

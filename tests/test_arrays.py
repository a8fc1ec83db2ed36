"""Arrays that users pass in: all real dtypes, layouts and containers, and all invalid inputs."""

import datetime
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from helpers import everything, network, refused
from hypothesis import given, settings
from hypothesis import strategies as st

import cnet
from cnet._arrays import aligned_empty
from cnet.data import as_data, as_inputs
from cnet.losses import CrossEntropy, SquaredError

# Integers from 0 to 1 are exact in all of them.
DTYPES = [
    *(np.float16, np.float32, np.float64, np.longdouble, np.bool_),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(">f4", ">f8", ">i2", ">i8", ">u4"),
]
N_INPUTS, N_OUTPUTS = 3, 2
# The same examples in each test run.
examples = settings(derandomize=True, deadline=None, max_examples=80)


@dataclass(frozen=True)
class Layout:
    """A memory layout for an array."""

    dtype: object
    steps: tuple[int, ...]  # from one element to the next along each axis, backwards where negative
    order: str
    offset: int  # bytes from an aligned address
    writeable: bool

    def lay_out(self, values):
        """Return a view that equals `values`, and the buffer it is a view of."""
        dtype = np.dtype(self.dtype)
        steps = self.steps[: values.ndim]
        shape = [n * abs(step) for n, step in zip(values.shape, steps, strict=True)]
        raw = np.zeros(int(np.prod(shape)) * dtype.itemsize + self.offset, np.uint8)
        base = raw[self.offset :].view(dtype).reshape(shape, order=self.order)
        # The gaps between the elements must never be read.
        base[...] = np.nan if dtype.kind == "f" else 1
        view = base[tuple(slice(None, None, step) for step in steps)]
        view[...] = values
        view.flags.writeable = self.writeable
        return view, raw


layouts = st.builds(
    Layout,
    dtype=st.sampled_from(DTYPES),
    steps=st.tuples(*[st.sampled_from([1, 2, 3, -1, -2])] * 2),
    order=st.sampled_from("CF"),
    offset=st.integers(0, 3),
    writeable=st.booleans(),
)


def numbers(*shape, seed=0):
    """Return random numbers 0 and 1, which every dtype in DTYPES can hold."""
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.float64)


def small_network(dtype="float64", output="sigmoid"):
    return network(N_INPUTS, 4, N_OUTPUTS, dtype=dtype, output=output)


def trained(net, x, y, sample_weight=None):
    """Return the network after a short training."""
    net.train(
        x, y, 0.1, 3, batch_size=2, optimizer="adam", sample_weight=sample_weight, verbose=False
    )
    return net


# Layouts and dtypes


@examples
@given(layout=layouts, n=st.integers(1, 7), dtype=st.sampled_from(["float32", "float64"]))
def test_predict_reads_every_layout(layout, n, dtype):
    net = small_network(dtype)
    values = numbers(n, N_INPUTS)
    x, raw = layout.lay_out(values)
    before = raw.tobytes()
    np.testing.assert_array_equal(net.predict(x), net.predict(values.astype(dtype)))
    np.testing.assert_array_equal(net.predict(x[0]), net.predict(values[0].astype(dtype)))
    assert raw.tobytes() == before


@examples
@given(
    x_layout=layouts,
    y_layout=layouts,
    weight_layout=layouts,
    n=st.integers(1, 7),
    labels=st.booleans(),
    output=st.sampled_from(["sigmoid", "softmax"]),
)
def test_train_reads_every_layout(x_layout, y_layout, weight_layout, n, labels, output):
    x, sample_weight = numbers(n, N_INPUTS), numbers(n, seed=1)
    # For softmax, one-hot rows.
    y = numbers(n, seed=2) if labels else np.eye(N_OUTPUTS)[numbers(n, seed=2).astype(int)]
    plain = trained(small_network(output=output), x, y, sample_weight)
    laid_out = [x_layout.lay_out(x), y_layout.lay_out(y), weight_layout.lay_out(sample_weight)]
    before = [raw.tobytes() for _, raw in laid_out]
    given_arrays = trained(small_network(output=output), *(view for view, _ in laid_out))
    assert everything(given_arrays) == everything(plain)
    assert [raw.tobytes() for _, raw in laid_out] == before


def test_values_are_converted_once_from_their_own_dtype():
    # 0.1 in float16 differs from 0.1 in float64 and must remain the float16 number.
    net = small_network()
    x = np.full((2, N_INPUTS), 0.1, np.float16)
    np.testing.assert_array_equal(net.predict(x), net.predict(x.astype(np.float64)))
    assert not np.array_equal(net.predict(x), net.predict(np.full((2, N_INPUTS), 0.1)))


def test_transposed_and_repeated_rows():
    net = small_network()
    values = numbers(5, N_INPUTS)
    expected = net.predict(values)
    np.testing.assert_array_equal(net.predict(values.T.copy().T), expected)
    repeated = np.broadcast_to(values[0], (5, N_INPUTS))
    np.testing.assert_array_equal(net.predict(repeated), np.tile(expected[0], (5, 1)))


# Containers


class Tagged(np.ndarray):
    """A subclass whose arithmetic is unreliable."""

    def __array_ufunc__(self, *args, **kwargs):
        raise AssertionError("the subclass's own arithmetic was used")


CONTAINERS = {
    "list": lambda a: a.tolist(),
    "list of rows": list,
    "tuple": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "object array": lambda a: a.astype(object),
    "subclass": lambda a: a.view(Tagged),
    "masked array without masked values": np.ma.array,
    "DataFrame": lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a),
    "DataFrame with a custom index": lambda a: (
        pd.DataFrame(a, index=range(9, 9 - len(a), -1))
        if a.ndim == 2
        else pd.Series(a, index=range(9, 9 - len(a), -1))
    ),
    "DataFrame of nullable floats": lambda a: CONTAINERS["DataFrame"](a).astype("Float64"),
    "DataFrame of nullable integers": lambda a: CONTAINERS["DataFrame"](a).astype("Int64"),
    "DataFrame of nullable booleans": lambda a: CONTAINERS["DataFrame"](a).astype("boolean"),
    "DataFrame of several dtypes": lambda a: (
        pd.DataFrame({str(i): a[:, i].astype(f"f{4 << i % 2}") for i in range(a.shape[1])})
        if a.ndim == 2
        else pd.Series(a, dtype=object)
    ),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("n_columns", [1, N_OUTPUTS])
def test_containers(container, n_columns):
    x, sample_weight = numbers(6, N_INPUTS), numbers(6, seed=1)
    y = numbers(6, seed=2) if n_columns == 1 else numbers(6, N_OUTPUTS, seed=2)
    plain = trained(small_network(), x, y, sample_weight)
    arguments = [container(values) for values in (x, y, sample_weight)]
    net = trained(small_network(), *arguments)
    assert everything(net) == everything(plain)
    np.testing.assert_array_equal(net.predict(arguments[0]), plain.predict(x))
    # The containers are not changed either.
    for argument, values in zip(arguments, (x, y, sample_weight), strict=True):
        np.testing.assert_array_equal(np.array(argument, np.float64), values)


@pytest.mark.parametrize("offset", [0, 16, 5], ids=["at the start", "aligned", "not aligned"])
def test_memmap(tmp_path, offset):
    values = numbers(50, N_INPUTS)
    path = tmp_path / "x.bin"
    path.write_bytes(b"-" * offset + values.tobytes())
    x = np.memmap(path, np.float64, mode="r", offset=offset, shape=values.shape)
    assert x.flags.aligned == (offset % 8 == 0)
    y = numbers(50, N_OUTPUTS, seed=1)
    assert everything(trained(small_network(), x, y)) == everything(
        trained(small_network(), values, y)
    )


def test_a_saved_array_is_read_from_disk(tmp_path):
    values = numbers(50, N_INPUTS)
    np.save(tmp_path / "x.npy", values)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    net = small_network()
    np.testing.assert_array_equal(net.predict(x), net.predict(values))


# Arrays of the right dtype and layout are not copied


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("shape", [(5, N_INPUTS), (N_INPUTS,), (1, N_INPUTS)], ids=str)
def test_inputs_of_the_right_dtype_are_not_copied(dtype, writeable, shape):
    x = numbers(*shape).astype(dtype)
    x.flags.writeable = writeable
    rows, is_row = as_inputs(x, N_INPUTS, np.dtype(dtype))
    assert np.shares_memory(rows, x)
    assert rows.shape == (x.size // N_INPUTS, N_INPUTS)
    assert is_row == (x.ndim == 1)


@pytest.mark.parametrize(
    "container",
    [lambda x: x.view(Tagged), np.ma.array, lambda x: pd.DataFrame(x, copy=False)],
    ids=["subclass", "masked array", "DataFrame"],
)
def test_inputs_in_a_container_are_not_copied(container):
    x = numbers(5, N_INPUTS)
    assert np.shares_memory(as_inputs(container(x), N_INPUTS, x.dtype)[0], x)


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()], ids=lambda loss: loss.name)
def test_targets_and_weights_are_not_copied(loss):
    x, y, sample_weight = numbers(5, N_INPUTS), np.eye(5, N_OUTPUTS), numbers(5, seed=1)
    y[2:, 0] = 1
    labels = np.array([0, 1, 1, 0, 1], np.intp)
    settings = {"n_inputs": N_INPUTS, "n_outputs": N_OUTPUTS, "dtype": x.dtype, "loss": loss}
    data = as_data(x, y, sample_weight, **settings)
    assert np.shares_memory(data.targets, y)
    assert np.shares_memory(data.sample_weight, sample_weight)
    assert data.labels.size == 0
    if loss == CrossEntropy():
        # The engine uses these as indices: not even the user may change them during training.
        assert not np.shares_memory(as_data(x, labels, None, **settings).labels, labels)


@pytest.mark.parametrize("method", ["predict", "evaluate", "train", "input_gradient"])
def test_methods_do_not_copy_x(method):
    net = network(64, 2)
    x, y = np.zeros((20_000, 64)), np.zeros((20_000, 2))
    arguments = {
        "predict": {"x": x},
        "train": {"x": x, "y": y, "epochs": 1, "batch_size": None, "verbose": False},
    }
    tracemalloc.start()
    try:
        result = getattr(net, method)(**arguments.get(method, {"x": x, "y": y}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Blocks, outputs and the order of rows take memory, but much less than x.
    assert peak - (result.nbytes if method == "input_gradient" else 0) < x.nbytes / 3


@examples
@given(layout=layouts, n=st.integers(1, 5), dtype=st.sampled_from(["float32", "float64"]))
def test_the_engine_gets_aligned_contiguous_arrays(layout, n, dtype):
    x, _ = layout.lay_out(numbers(n, N_INPUTS))
    rows, _ = as_inputs(x, N_INPUTS, np.dtype(dtype))
    assert rows.dtype == dtype
    assert rows.dtype.isnative
    assert rows.flags.aligned
    assert rows.flags.c_contiguous


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_aligned_empty(size, dtype):
    for _ in range(20):
        array = aligned_empty(size, np.dtype(dtype))
        assert array.shape == (size,)
        assert array.dtype == dtype
        assert array.ctypes.data % 64 == 0


# Invalid input, in every method


class Sparse:
    """Resembles a matrix of scipy.sparse."""

    shape = (3, N_INPUTS)

    def toarray(self):
        raise AssertionError("a sparse matrix must not be made dense behind the user's back")


def with_first(value, dtype=np.float64):
    """Return a function that replaces an array's first number with `value`."""

    def change(good):
        bad = good.astype(dtype)
        bad[(0,) * bad.ndim] = value
        return bad

    return change


# From valid to invalid numbers, and the expected words of the message.
CONTENTS = {
    "text": (lambda good: good.astype(str), ["real numbers", "text"]),
    "bytes": (lambda good: good.astype(bytes), ["real numbers", "text"]),
    "a word": (lambda good: "word", ["real numbers", "text"]),
    "text in lists": (lambda good: good.astype(str).tolist(), ["real numbers", "text"]),
    "text among objects": (with_first("1.5", object), ["real numbers", "the text '1.5'"]),
    "bytes among objects": (with_first(b"1", object), ["real numbers", "the text b'1'"]),
    "text in a Series": (
        lambda good: pd.Series(["a"] * len(good)),
        ["real numbers", "the text 'a'"],
    ),
    "categories": (
        lambda good: pd.Series(["a"] * len(good), dtype="category"),
        ["real numbers", "the text 'a'"],
    ),
    "complex": (lambda good: good + 0j, ["real numbers", "complex"]),
    "complex among objects": (with_first(1j, object), ["real numbers", "1j"]),
    "None among objects": (with_first(None, object), ["real numbers", "None"]),
    "None in a list": (lambda good: [None] * len(good), ["real numbers", "None"]),
    "an object": (lambda good: object(), ["real numbers", "object"]),
    "a function": (lambda good: len, ["real numbers", "builtin_function_or_method"]),
    "a dict": (lambda good: {"a": 1}, ["numbers", "dict"]),
    "a set": (lambda good: {1.0, 2.0}, ["numbers", "set"]),
    "a generator": (lambda good: (row for row in good), ["real numbers", "generator"]),
    "dates": (lambda good: good.astype("M8[D]"), ["real numbers", "datetime64"]),
    "durations": (lambda good: good.astype("m8[s]"), ["real numbers", "timedelta64"]),
    "a date among objects": (
        lambda good: np.roll(with_first(datetime.date(2024, 1, 1), object)(good), 1),
        ["real numbers", "date"],
    ),
    "missing among objects": (with_first(pd.NA, object), ["real numbers", "NA"]),
    "records": (lambda good: np.zeros(len(good), "f8,f8"), ["real numbers", "records"]),
    "sparse": (lambda good: Sparse(), ["dense", "sparse Sparse", "toarray()"]),
    "masked": (
        lambda good: np.ma.array(good, mask=np.ones(good.shape)),
        ["masked", "filled"],
    ),
    "ragged": (lambda good: [[1.0, 0.0], [1.0]], ["rows of different lengths"]),
    "ragged objects": (
        lambda good: np.array([[1.0, 0.0], [1.0], None], dtype=object)[:2],
        ["rows of different lengths"],
    ),
    "NaN": (with_first(np.nan), ["NaN or infinite", "got nan"]),
    "NaN among objects": (with_first(float("nan"), object), ["nan"]),
    "infinite": (with_first(np.inf), ["inf"]),
    "minus infinite": (with_first(-np.inf, np.float16), ["-inf"]),
    "a huge integer": (with_first(10**400, object), []),
    "no rows": (lambda good: good[:0], ["got", "(0,"]),
    "an empty list": (lambda good: [], ["got", "(0,)"]),
    "three dimensions": (lambda good: good.reshape(len(good), -1, 1), ["got shape", "1)"]),
}
TAKES_X = {
    "predict": lambda net, x: net.predict(x),
    "predict_class": lambda net, x: net.predict_class(x),
    "activations": lambda net, x: net.activations(x),
    "forward_propagate": lambda net, x: net.forward_propagate(x),
    "train": lambda net, x: net.train(x, numbers(4, N_OUTPUTS)),
    "evaluate": lambda net, x: net.evaluate(x, numbers(4, N_OUTPUTS)),
    "loss_and_gradient": lambda net, x: net.loss_and_gradient(x, numbers(4, N_OUTPUTS)),
    "input_gradient": lambda net, x: net.input_gradient(x, numbers(4, N_OUTPUTS)),
    "backward_propagate": lambda net, x: net.backward_propagate(x, [0, 1], 0.1),
}
# The tutorials' methods have the tutorials' argument names.
X_NAMES = {"forward_propagate": "inputs", "backward_propagate": "inputs"}
TAKES_TARGETS = ["train", "evaluate", "loss_and_gradient", "input_gradient"]
TAKES_Y = {
    name: lambda net, y, name=name: getattr(net, name)(numbers(4, N_INPUTS), y)
    for name in TAKES_TARGETS
}
TAKES_SAMPLE_WEIGHT = {
    name: lambda net, weight, name=name: getattr(net, name)(
        numbers(4, N_INPUTS), numbers(4, N_OUTPUTS), sample_weight=weight
    )
    for name in TAKES_TARGETS
}


@pytest.fixture
def net():
    """Return a network with a history, a loss, optimizer state and an advanced random generator."""
    return trained(small_network(), numbers(4, N_INPUTS), numbers(4, N_OUTPUTS))


@pytest.mark.parametrize("method", ["predict", "train"])
@pytest.mark.parametrize(("spoil", "words"), CONTENTS.values(), ids=CONTENTS)
def test_x_with_bad_contents_raises(net, method, spoil, words):
    with refused("x ", *words, of=[net]):
        TAKES_X[method](net, spoil(numbers(4, N_INPUTS)))


@pytest.mark.parametrize("shape", [(4, N_OUTPUTS), (4,)], ids=["targets", "labels"])
@pytest.mark.parametrize(("spoil", "words"), CONTENTS.values(), ids=CONTENTS)
def test_y_with_bad_contents_raises(net, shape, spoil, words):
    # For labels the message does not say that they are infinite, but lists the valid labels.
    words = [word for word in words if shape != (4,) or word != "NaN or infinite"]
    with refused("y ", *words, of=[net]):
        net.train(numbers(4, N_INPUTS), spoil(numbers(*shape)))


@pytest.mark.parametrize(("spoil", "words"), CONTENTS.values(), ids=CONTENTS)
def test_sample_weight_with_bad_contents_raises(net, spoil, words):
    with refused("sample_weight ", *words, of=[net]):
        TAKES_SAMPLE_WEIGHT["train"](net, spoil(numbers(4)))


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "float64", "object"])
def test_pandas_missing_values_raise(net, dtype):
    missing = pd.Series([0, 1, None, 1], dtype=dtype)
    good = numbers(4, N_INPUTS)
    with refused("x ", of=[net]):
        net.predict(pd.DataFrame({"a": missing, "b": missing, "c": missing}))
    with refused("y ", of=[net]):
        net.train(good, missing)
    with refused("sample_weight ", of=[net]):
        net.train(good, numbers(4, N_OUTPUTS), sample_weight=missing)


@pytest.mark.parametrize("method", TAKES_X)
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((), ["1 or 2 dimensions", "got shape ()"]),
        ((2,), ["3 columns", "got shape (2,)"]),
        ((4, 2), ["3 columns", "got shape (4, 2)"]),
        ((4, 4), ["3 columns", "got shape (4, 4)"]),
        ((3, 4), ["3 columns", "got shape (3, 4)"]),
        ((0, 3), ["at least one row", "got shape (0, 3)"]),
        ((4, 0), ["empty", "got shape (4, 0)"]),
        ((4, 3, 1), ["1 or 2 dimensions", "got shape (4, 3, 1)"]),
    ],
    ids=str,
)
def test_x_with_a_bad_shape_raises(net, method, shape, words):
    with refused(f"{X_NAMES.get(method, 'x')} ", *words, of=[net]):
        TAKES_X[method](net, np.zeros(shape))


@pytest.mark.parametrize("method", TAKES_Y.values(), ids=TAKES_Y)
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((), ["4 rows", "got shape ()"]),
        ((3,), ["4 rows", "got shape (3,)"]),
        ((3, 2), ["4 rows", "got shape (3, 2)"]),
        ((2, 4), ["4 rows", "got shape (2, 4)"]),
        ((4, 3), ["2 columns", "got shape (4, 3)"]),
        ((4, 0), ["empty", "(4, 0)"]),
        ((4, 2, 1), ["one or two dimensions", "got shape (4, 2, 1)"]),
    ],
    ids=str,
)
def test_y_with_a_bad_shape_raises(net, method, shape, words):
    with refused("y ", *words, of=[net]):
        method(net, np.zeros(shape))


@pytest.mark.parametrize("method", TAKES_SAMPLE_WEIGHT.values(), ids=TAKES_SAMPLE_WEIGHT)
@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (1, 4), (0,)], ids=str)
def test_sample_weight_with_a_bad_shape_raises(net, method, shape):
    with refused("sample_weight must have shape (4,)", f"got shape {shape}", of=[net]):
        method(net, np.zeros(shape))


@pytest.mark.parametrize("method", TAKES_SAMPLE_WEIGHT.values(), ids=TAKES_SAMPLE_WEIGHT)
def test_negative_sample_weights_raise(net, method):
    with refused("sample_weight must not be negative", "got -0.5", of=[net]):
        method(net, [1, 2, -0.5, 0])


@pytest.mark.parametrize("argument", ["x", "y", "sample_weight"])
@pytest.mark.parametrize("value", [1e39, -1e300, np.longdouble("1e4000")], ids=str)
def test_numbers_too_large_for_float32_raise(argument, value):
    net = small_network("float32")
    arguments = {"x": numbers(4, N_INPUTS), "y": numbers(4, N_OUTPUTS), "sample_weight": numbers(4)}
    arguments[argument] = with_first(value, np.longdouble)(arguments[argument])
    index = "0" if argument == "sample_weight" else "0, 0"
    with refused(
        f"{argument} must fit float32", f"got {value:g}", f"at {argument}[{index}]", of=[net]
    ):
        net.train(**arguments)


def test_the_largest_float32_fits():
    net = small_network("float32")
    x = numbers(1, N_INPUTS)
    x[0, 0] = np.finfo(np.float32).max
    assert np.isfinite(net.predict(x)).all()


@pytest.mark.parametrize("method", TAKES_X)
def test_the_message_locates_the_bad_number_in_x(net, method):
    x = numbers(4, N_INPUTS)
    x[2, 1] = np.nan
    name = X_NAMES.get(method, "x")
    with refused(f"{name} must not have NaN or infinite", f"got nan at {name}[2, 1]", of=[net]):
        TAKES_X[method](net, x)


@pytest.mark.parametrize("method", TAKES_Y.values(), ids=TAKES_Y)
def test_the_message_locates_the_bad_number_in_y(net, method):
    y = numbers(4, N_OUTPUTS)
    y[3, 1] = np.inf
    with refused("y must not have NaN or infinite values, got inf at y[3, 1]", of=[net]):
        method(net, y)


# Targets that are invalid for the loss


def with_loss(output, loss):
    """Return a network with this output and loss after a short training."""
    net = network(N_INPUTS, 4, N_OUTPUTS, output=output)
    net.train(
        numbers(4, N_INPUTS),
        np.eye(N_OUTPUTS)[[0, 1, 1, 0]],
        epochs=2,
        loss=loss,
        optimizer="adam",
        verbose=False,
    )
    return net


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        ("softmax", "cross_entropy"),
        ("sigmoid", "squared_error"),
        ("sigmoid", "binary_cross_entropy"),
        ("exp", "poisson"),
    ],
)
@pytest.mark.parametrize(
    ("labels", "got"),
    [
        ([0, 1, 2, 1], "2"),
        ([0, 1, -1, 1], "-1"),
        ([0, 1, 0.5, 1], "0.5"),
        ([[0], [1], [7], [1]], "7"),
        (np.array([0, 1, 255, 1], np.uint8), "255"),
        (np.array([0, 1, 2**63, 1], np.uint64), "9.22337e+18"),
        ([0, 1, 0, np.nan], "nan"),
        ([0, 1, 0, np.inf], "inf"),
    ],
    ids=str,
)
def test_bad_labels_raise(output, loss, labels, got):
    net = with_loss(output, loss)
    with refused("y must be integer labels from 0 to 1", "2 outputs", f"got {got}", of=[net]):
        net.train(numbers(4, N_INPUTS), labels, loss=loss)


@pytest.mark.parametrize(
    ("output", "loss", "rows", "words"),
    [
        ("softmax", "cross_entropy", [0.5, 0.6], ["rows that sum to 1", "row 1", "sum 1.1"]),
        ("softmax", "cross_entropy", [1, 1], ["rows that sum to 1", "row 1", "sum 2"]),
        ("softmax", "cross_entropy", [0, 0], ["rows that sum to 1", "row 1", "sum 0"]),
        ("softmax", "cross_entropy", [-0.5, 1.5], ["at least 0 and at most 1", "got -0.5"]),
        ("sigmoid", "binary_cross_entropy", [0, 1.5], ["at least 0 and at most 1", "got 1.5"]),
        ("sigmoid", "binary_cross_entropy", [-1, 1], ["at least 0 and at most 1", "got -1"]),
        ("exp", "poisson", [3, -2], ["at least 0", "got -2"]),
        ("softplus", "poisson", [3, -0.5], ["at least 0", "got -0.5"]),
    ],
)
def test_targets_outside_the_range_of_the_loss_raise(output, loss, rows, words):
    net = with_loss(output, loss)
    y = np.array([[0, 1], rows, [1, 0], [0, 1]])
    with refused("y must be", f"loss '{loss}'", *words, of=[net]):
        net.train(numbers(4, N_INPUTS), y, loss=loss)


def test_probabilities_may_be_off_by_rounding():
    net = network(N_INPUTS, 3, output="softmax")
    thirds = np.full((4, 3), 1 / 3, np.float16)
    assert net.train(numbers(4, N_INPUTS), thirds, epochs=1, verbose=False)["loss"][0] > 0


# The meaning of targets


@pytest.mark.parametrize("as_column", [False, True])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.float32])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_labels_stand_for_one_hot_rows(as_column, dtype, output):
    x, labels = numbers(6, N_INPUTS), np.array([0, 1, 1, 0, 1, 0])
    by_rows = trained(network(N_INPUTS, 4, 2, output=output), x, np.eye(2)[labels])
    given_labels = labels.astype(dtype)
    by_labels = trained(
        network(N_INPUTS, 4, 2, output=output),
        x,
        given_labels[:, None] if as_column else given_labels,
    )
    np.testing.assert_allclose(by_labels.parameters, by_rows.parameters, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(6,), (6, 1)], ids=str)
def test_targets_of_a_single_output(shape):
    x, y = numbers(6, N_INPUTS), numbers(6, seed=1) / 3
    net = trained(network(N_INPUTS, 4, 1), x, y.reshape(shape))
    assert everything(net) == everything(trained(network(N_INPUTS, 4, 1), x, y))


@pytest.mark.parametrize(
    ("n_outputs", "output", "target", "row"),
    [
        (1, "sigmoid", 1, [1]),
        (1, "sigmoid", [1], [1]),
        (1, "sigmoid", [[1]], [1]),
        (3, "sigmoid", 2, [0, 0, 1]),
        (3, "sigmoid", [2], [0, 0, 1]),
        (3, "sigmoid", [0, 0, 1], [0, 0, 1]),
        (3, "sigmoid", [[0, 0, 1]], [0, 0, 1]),
        (3, "softmax", np.int8(2), [0, 0, 1]),
        (3, "softmax", [0, 0, 1], [0, 0, 1]),
    ],
)
def test_target_of_a_single_row(n_outputs, output, target, row):
    net = network(N_INPUTS, n_outputs, output=output)
    x = numbers(N_INPUTS)
    loss, gradient = net.loss_and_gradient(x, target, sample_weight=3)
    expected, expected_gradient = net.loss_and_gradient(x[None], [row], sample_weight=[3])
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12)


def test_setters_check_their_arrays(net):
    layer = net.layers[0]
    for values, words in [
        (np.zeros((4, 3)), ["shape (3, 4)", "got shape (4, 3)"]),
        (np.zeros(12), ["shape (3, 4)", "got shape (12,)"]),
        (0.0, ["shape (3, 4)", "got shape ()"]),
        (np.full((3, 4), np.nan), ["NaN", "got nan at weights[0, 0]"]),
        (np.full((3, 4), "a"), ["real numbers", "text"]),
    ]:
        with refused("weights must", *words, of=[net]):
            layer.weights = values
    with refused("biases must", "shape (4,)", "got shape (3,)", of=[net]):
        layer.biases = np.zeros(3)
    with refused("biases must", "inf at biases[1]", of=[net]):
        layer.biases = [0, np.inf, 0, 0]


def test_cnet_loss_objects_check_targets_too():
    net = network(N_INPUTS, 1)
    with refused("y must be at least 0 and at most 1", "got 2", of=[net]):
        net.evaluate(numbers(2, N_INPUTS), [0, 2], loss=cnet.BinaryCrossEntropy())


# Arrays that change during training


def test_training_is_safe_if_labels_and_shapes_change_meanwhile():
    # A label out of range would be written far beyond the outputs, and a longer x read beyond its end.
    x, y = numbers(40, N_INPUTS), np.arange(40) % 2
    net, expected = network(N_INPUTS, 2, output="softmax"), network(N_INPUTS, 2, output="softmax")

    def meddle(net, epoch, logs):
        y[:] = 10**8
        x.resize((120, 1), refcheck=False)

    expected.train(x.copy(), y.copy(), 0.1, 3, batch_size=8, verbose=False)
    net.train(x, y, 0.1, 3, batch_size=8, verbose=False, callbacks=meddle)
    np.testing.assert_array_equal(net.parameters, expected.parameters)


def test_training_on_the_networks_own_weights():
    net, expected = network(2, 2, 2), network(2, 2, 2)
    x = net.layers[0].weights
    y = expected.layers[0].weights.copy()
    net.train(x, x, 0.5, 20, verbose=False)
    expected.train(y.copy(), y, 0.5, 20, verbose=False)
    np.testing.assert_array_equal(net.parameters, expected.parameters)

"""Real data: compares cnet's estimators with scikit-learn's, with the same settings and seeds.

Every data set is split (unless it comes with a split), encoded and scaled. For each seed, both libraries
are trained on one core, interleaved, and scored on unseen rows. The result is a Markdown table of means
and standard deviations over the seeds, and scikit-learn's time relative to cnet's.

The files are not part of cnet. Put the files you have into one folder, under these names:

    mnist/*.gz               the four idx files of MNIST; https://github.com/cvdfoundation/mnist
    adult/train.csv, test.csv    UCI Adult, adult.data and adult.test without its first line;
                                 https://archive.ics.uci.edu/dataset/2/adult
    churn_modelling.csv      the 10,000 bank customers of many tutorials, Kaggle's "Churn Modelling"
    higgs_sample/train.tsv, test.tsv    binary.train and binary.test of LightGBM's binary
                                        classification example
    california_housing.csv   housing.csv of Géron's "Hands-On Machine Learning", or Kaggle's
                             "California Housing Prices"

    python -m benchmarks.real_data --data FOLDER
    python -m benchmarks.real_data --data FOLDER adult churn --seeds 3
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate
from threadpoolctl import threadpool_limits

from benchmarks import machine

ADULT_COLUMNS = [
    "age", "workclass", "weight", "education", "education_years", "marital_status", "occupation",
    "relationship", "race", "sex", "gain", "loss", "hours", "country", "income",
]  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Training rows and test rows, in float32."""

    x: NDArray[Any]
    y: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]


@dataclass(frozen=True)
class DataSet:
    """A data set and the settings to train on it.

    Attributes
    ----------
    read : callable
        ``read(folder, seed)`` returns the split.
    needs : str
        Required file or subfolder.
    settings : dict
        Parameters of the estimators, apart from the seed.
    scores : tuple of str
        scikit-learn's names of the scores in the table.
    regression : bool
    """

    read: Callable[[Path, int], Split]
    needs: str
    settings: dict[str, Any]
    scores: tuple[str, ...]
    regression: bool = False


def read_adult(folder: Path, seed: int) -> Split:
    """Return UCI Adult: whether a person earns more than 50,000 dollars."""
    import pandas as pd

    train, test = (
        pd.read_csv(
            folder / "adult" / name, names=ADULT_COLUMNS, skipinitialspace=True, na_values="?"
        )
        for name in ("train.csv", "test.csv")
    )
    y, y_test = (frame.pop("income").str.startswith(">").to_numpy(int) for frame in (train, test))
    return preprocessed(train, y, test, y_test)


def read_churn(folder: Path, seed: int) -> Split:
    """Return the bank customers: which of them leave the bank."""
    import pandas as pd

    frame = pd.read_csv(folder / "churn_modelling.csv")
    frame = frame.drop(columns=["RowNumber", "CustomerId", "Surname"])
    y = frame.pop("Exited").to_numpy()
    return split_randomly(frame, y, seed)


def read_higgs(folder: Path, seed: int) -> Split:
    """Return the Higgs sample: whether an event contains a Higgs boson."""
    import pandas as pd

    train, test = (
        pd.read_csv(folder / "higgs_sample" / name, sep="\t", header=None).rename(columns=str)
        for name in ("train.tsv", "test.tsv")
    )
    y, y_test = (frame.pop("0").to_numpy(int) for frame in (train, test))
    return preprocessed(train, y, test, y_test)


def read_california(folder: Path, seed: int) -> Split:
    """Return California housing: the median house value of block groups, standardised."""
    import pandas as pd

    frame = pd.read_csv(folder / "california_housing.csv")
    y = frame.pop("median_house_value").to_numpy(np.float32)
    return split_randomly(frame, (y - y.mean()) / y.std(), seed)


def read_mnist(folder: Path, seed: int) -> Split:
    """Return MNIST: which digit an image shows."""
    from examples.mnist import IMAGES, LABELS, read_idx

    def read(name: str, magic: int) -> NDArray[np.uint8]:
        return read_idx(folder / "mnist" / f"{name}-ubyte.gz", magic)

    images = (read(f"{part}-images-idx3", IMAGES) for part in ("train", "t10k"))
    x, x_test = (np.divide(i, 255, dtype=np.float32).reshape(len(i), -1) for i in images)
    y, y_test = (read(f"{part}-labels-idx1", LABELS) for part in ("train", "t10k"))
    return Split(x, y, x_test, y_test)


def split_randomly(frame: Any, y: NDArray[Any], seed: int) -> Split:
    """Return a random split with a test set of one fifth."""
    from sklearn.model_selection import train_test_split

    train, test, y_train, y_test = train_test_split(frame, y, test_size=0.2, random_state=seed)
    return preprocessed(train, y_train, test, y_test)


def preprocessed(train: Any, y: NDArray[Any], test: Any, y_test: NDArray[Any]) -> Split:
    """Return tables as numbers: text one-hot encoded, numbers imputed and scaled, fitted on `train`."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_column_selector(dtype_include=np.number)
    texts = make_column_selector(dtype_exclude=np.number)
    transformer = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
    )
    x = transformer.fit_transform(train).astype(np.float32)
    return Split(x, y, transformer.transform(test).astype(np.float32), y_test)


DATA_SETS = {
    "adult": DataSet(read_adult, "adult", {"early_stopping": True}, ("accuracy", "roc_auc")),
    "churn": DataSet(
        read_churn, "churn_modelling.csv", {"early_stopping": True}, ("accuracy", "roc_auc")
    ),
    "higgs": DataSet(read_higgs, "higgs_sample", {"early_stopping": True}, ("accuracy", "roc_auc")),
    "california": DataSet(
        read_california,
        "california_housing.csv",
        {"hidden_layer_sizes": (64, 64), "early_stopping": True},
        ("r2", "neg_mean_absolute_error"),
        regression=True,
    ),
    "mnist": DataSet(
        read_mnist, "mnist", {"hidden_layer_sizes": (100, 100), "tol": 1e-4}, ("accuracy",)
    ),
}


def contestants(regression: bool) -> dict[str, Callable[..., Any]]:
    """Return the estimator classes to compare."""
    import sklearn.neural_network as peer

    from cnet import estimators

    kind = "MLPRegressor" if regression else "MLPClassifier"
    return {"cnet": getattr(estimators, kind), "scikit-learn": getattr(peer, kind)}


def measure(name: str, folder: Path, seeds: int) -> list[dict[str, str]]:
    """Return the table rows of a data set, one per library."""
    from sklearn.metrics import get_scorer

    data = DATA_SETS[name]
    makers = contestants(data.regression)
    seconds: dict[str, list[float]] = {title: [] for title in makers}
    epochs: dict[str, list[int]] = {title: [] for title in makers}
    scores: dict[str, dict[str, list[float]]] = {
        title: {score: [] for score in data.scores} for title in makers
    }
    for seed in range(1, seeds + 1):
        split = data.read(folder, seed)
        for title, maker in makers.items():
            model = maker(random_state=seed, **data.settings)
            start = time.perf_counter()
            with warnings.catch_warnings():
                # Both may warn that training reached the last epoch while still improving.
                warnings.simplefilter("ignore")
                model.fit(split.x, split.y)
            seconds[title].append(time.perf_counter() - start)
            epochs[title].append(model.n_iter_)
            for score in data.scores:
                value = get_scorer(score)(model, split.x_test, split.y_test)
                scores[title][score].append(value)
    own = median(seconds["cnet"])
    return [
        {
            "data": name,
            "by": title,
            **{
                score: f"{np.mean(values):.4f} ± {np.std(values):.4f}"
                for score, values in scores[title].items()
            },
            "epochs": f"{np.mean(epochs[title]):.0f}",
            "seconds": f"{median(seconds[title]):.3g}",
            "÷ cnet": f"{median(seconds[title]) / own:.2f}",
        }
        for title in makers
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, train and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"data sets, from {', '.join(DATA_SETS)}; default: all whose files exist",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="folder with the files"
    )
    parser.add_argument(
        "--seeds", type=int, default=5, help="number of seeds; default: %(default)s"
    )
    parser.add_argument("--core", type=int, help="core to run on; default: the last available one")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in DATA_SETS]
    if unknown:
        parser.error(f"no data set {', '.join(unknown)}; choose from {', '.join(DATA_SETS)}")
    names = arguments.names or list(DATA_SETS)
    there = [name for name in names if (arguments.data / DATA_SETS[name].needs).exists()]
    for name in names:
        if name not in there:
            needs = arguments.data / DATA_SETS[name].needs
            print(f"{name} is left out: there is no {needs}", file=sys.stderr)
    machine.pin_to([machine.allowed_cores()[-1] if arguments.core is None else arguments.core])
    # Limits NumPy's BLAS, which was loaded before the process was pinned to one core.
    with threadpool_limits(1):
        for name in there:
            rows = measure(name, arguments.data, arguments.seeds)
            table = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
            print(table, flush=True)
            print(flush=True)


if __name__ == "__main__":
    main()

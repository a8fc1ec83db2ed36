"""MNIST: train on 60,000 handwritten digits and read 10,000 others with an error of about 1.8 %.

Shows mini-batch training with Adam, a callback that tests the network after each epoch, and a
second call of `train`, which continues where the first ended, with a lower learning rate.

The data are the four files of MNIST by LeCun, Cortes and Burges, in their published, compressed form:

    train-images-idx3-ubyte.gz    train-labels-idx1-ubyte.gz
    t10k-images-idx3-ubyte.gz     t10k-labels-idx1-ubyte.gz

Many sites mirror them, for example https://github.com/cvdfoundation/mnist. OpenML's mnist_784 contains
the same digits. Download the four files into one folder and pass its path:

    python examples/mnist.py --data FOLDER
    python examples/mnist.py --data FOLDER --epochs 4 --hidden 64
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnet import NeuralNetwork

IMAGES, LABELS = 2051, 2049  # magic numbers of the two kinds of idx file


def read_idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """Return the array in an idx file, which has a magic number, the shape and the bytes."""
    with gzip.open(path) as file:
        content = file.read()
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise ValueError(f"{path} must start with the magic number {magic}, got {found}")
    n_dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=n_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_dimensions).reshape(shape)


def read_images(path: Path) -> NDArray[np.float32]:
    """Return one row of 784 numbers between 0 and 1 for each image."""
    images = read_idx(path, IMAGES)
    return np.divide(images, 255, dtype=np.float32).reshape(len(images), -1)


def main() -> None:
    """Train on 60,000 digits, test on 10,000."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="folder with the four files"
    )
    parser.add_argument(
        "--epochs", type=int, default=16, help="number of epochs; default: %(default)s"
    )
    parser.add_argument(
        "--hidden",
        type=int,
        nargs="+",
        default=[200, 100],
        metavar="NEURONS",
        help="neurons in each hidden layer; default: 200 100",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the network; default: %(default)s"
    )
    args = parser.parse_args()
    try:
        x_train = read_images(args.data / "train-images-idx3-ubyte.gz")
        y_train = read_idx(args.data / "train-labels-idx1-ubyte.gz", LABELS)
        x_test = read_images(args.data / "t10k-images-idx3-ubyte.gz")
        y_test = read_idx(args.data / "t10k-labels-idx1-ubyte.gz", LABELS)
    except (OSError, EOFError, ValueError) as error:
        parser.error(f"cannot read MNIST in {args.data}: {error}; --help says where to get it")

    network = NeuralNetwork(seed=args.seed)
    network.add_layer(784, input_layer=True)
    for n_neurons in args.hidden:
        network.add_layer(n_neurons, "relu")
    network.add_layer(10, "softmax")
    network.summary()

    errors: list[float] = []

    def report(network: NeuralNetwork, epoch: int, logs: dict[str, float]) -> None:
        """Test the network after an epoch."""
        errors.append(1 - network.evaluate(x_test, y_test)["accuracy"])
        print(f"{len(errors):5}      {logs['loss']:13.4f}      {errors[-1]:10.4f}")

    print("\nepoch      training loss      test error")
    last = args.epochs // 4  # the last quarter of the epochs takes small steps
    start = time.perf_counter()
    for learning_rate, epochs in ((0.001, args.epochs - last), (0.0001, last)):
        network.train(
            x_train,
            y_train,
            learning_rate,
            epochs,
            batch_size=128,
            optimizer="adam",
            verbose=False,
            callbacks=[report],
        )
    seconds = time.perf_counter() - start

    test_error = 1 - network.evaluate(x_test, y_test)["accuracy"]
    rows = args.epochs * len(x_train)
    print(f"\nTest error: {test_error:.4f}")
    print(f"{seconds:.1f} seconds, tests included: {rows / seconds:,.0f} rows per second")


if __name__ == "__main__":
    main()

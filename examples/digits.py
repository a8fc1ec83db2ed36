"""Read handwritten digits with a softmax network, from loading the data to looking at its mistakes.

The data are the 1,797 digits of 8 x 8 pixels that come with scikit-learn. A fifth of them is held out
to measure how well the network reads unseen digits.

    python examples/digits.py
    python examples/digits.py --epochs 10 --hidden 32
"""

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from cnet import NeuralNetwork

MISTAKES_SHOWN = 4  # side by side, these fill a line of 80 characters


def report(network: NeuralNetwork, epoch: int, logs: dict[str, float]) -> None:
    """Print a line after every fifth epoch; `train` calls this function after every epoch."""
    if (epoch + 1) % 5 == 0:
        print(f"epoch {epoch + 1:3}: loss {logs['loss']:.4f}")


def draw(image: NDArray[np.float64]) -> list[str]:
    """Return an image of 64 pixels between 0 and 1 as lines of text, two characters per pixel."""
    shades = np.array(list(" ░▒▓█"))
    pixels = shades[np.rint(image * 4).astype(int)].reshape(8, 8)
    return ["".join(line.repeat(2)) for line in pixels]


def main() -> None:
    """Train on four fifths of the digits, test on the rest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--epochs", type=int, default=40, help="number of epochs; default: %(default)s"
    )
    parser.add_argument(
        "--hidden", type=int, default=256, help="neurons in the hidden layer; default: %(default)s"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the split and the network; default: %(default)s",
    )
    args = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = images / 16  # pixels range from 0 to 16; networks train best on inputs of about 1
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=args.seed
    )

    network = NeuralNetwork(seed=args.seed)
    network.add_layer(64, input_layer=True)
    network.add_layer(args.hidden, "relu")
    network.add_layer(10, "softmax")  # ten probabilities that sum to 1, one for each digit
    network.summary()
    print()

    network.train(
        x_train,
        y_train,  # integer labels from 0 to 9
        learning_rate=0.002,
        epochs=args.epochs,
        batch_size=32,
        optimizer="adam",
        verbose=False,  # `report` prints less
        callbacks=[report],
    )

    probabilities = network.predict(x_test)
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != y_test)
    accuracy = 1 - len(wrong) / len(y_test)
    print(f"\nTest accuracy: {accuracy:.4f} ({len(wrong)} of {len(y_test)} digits misread)\n")
    print(pd.crosstab(y_test, predicted, rownames=["true"], colnames=["predicted"]))

    shown = wrong[:MISTAKES_SHOWN]
    if len(shown) > 0:
        print("\nMisread digits, and how sure the network was:\n")
        for lines in zip(*(draw(x_test[i]) for i in shown), strict=True):
            print("    ".join(lines))
        print("    ".join(f"{f'{y_test[i]}, read as {predicted[i]}':^16}" for i in shown))
        print("    ".join(f"{f'{probabilities[i].max():.0%} sure':^16}" for i in shown))


if __name__ == "__main__":
    main()

"""The online tutorial: a network of two layers learns to distinguish two classes of points.

Ten points in the plane belong to two classes. The network takes one point at a time and updates its
weights immediately ("online") before the next one. It goes through all points a hundred times. Each
class has its own output, and the larger output is the answer.

    python examples/online_tutorial.py
"""

import argparse

import numpy as np

from cnet import NeuralNetwork

POINTS = [
    # x, y, class
    (2.7810836, 2.550537003, 0),
    (1.465489372, 2.362125076, 0),
    (3.396561688, 4.400293529, 0),
    (1.38807019, 1.850220317, 0),
    (3.06407232, 3.005305973, 0),
    (7.627531214, 2.759262235, 1),
    (5.332441248, 2.088626775, 1),
    (6.922596716, 1.77106367, 1),
    (8.675418651, -0.242068655, 1),
    (7.673756466, 3.508563011, 1),
]


def main() -> None:
    """Train on the ten points, then compare the predictions with the expected classes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the initial weights; default: %(default)s"
    )
    args = parser.parse_args()

    x_train = np.array([(x, y) for x, y, _ in POINTS])
    classes = np.array([label for _, _, label in POINTS])
    y_train = np.eye(2)[classes]  # one-hot: class 0 is (1, 0), class 1 is (0, 1)

    network = NeuralNetwork(seed=args.seed)
    network.add_layer(2, input_layer=True)
    network.add_layer(2)
    network.add_layer(2)

    network.train(x_train, y_train, 0.5, 100)  # learning rate 0.5, 100 epochs

    print("\nPredictions:")
    for point, expected in zip(x_train, classes, strict=True):
        outputs = network.predict(point)
        print(
            f"({point[0]:6.3f}, {point[1]:6.3f})  outputs {outputs[0]:.3f} {outputs[1]:.3f}  "
            f"expected class {expected}, got {network.predict_class(point)}"
        )

    print("\nTrained weights:")
    network.print_weights()


if __name__ == "__main__":
    main()

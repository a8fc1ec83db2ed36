"""The full-batch tutorial: two layers of sigmoids, trained on all points at once.

Fifteen points in the plane are labelled 0 or 1. In every iteration the network predicts all of them
and makes one gradient descent step on its error. `cnet.classic` provides the tutorial's two classes,
Layer and NeuralNetwork, so the tutorial's script runs with only the import changed. With the tutorial's
seed, 1, it gives the tutorial's weights and the tutorial's answer for the new point, 0.99942671.

    python examples/fullbatch_tutorial.py
    python examples/fullbatch_tutorial.py --iterations 1000
"""

import argparse

import numpy as np

from cnet.classic import Layer, NeuralNetwork

ZEROS = [(0, 0), (0, 1), (0, 2), (-1, 0), (-2, -2), (-2, -1), (-1, -1)]
ONES = [(1, -1), (1, 0), (1, 1), (2, 0), (3, 0), (0, -3), (0, -2), (2, -2)]


def main() -> None:
    """Print the weights before and after training, and the answer for a new point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--iterations", type=int, default=100_000, help="number of steps; default: %(default)s"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="seed of the initial weights; default: %(default)s, as in the tutorial",
    )
    args = parser.parse_args()

    np.random.seed(args.seed)
    layer1 = Layer(2, 4)  # two inputs, four neurons
    layer2 = Layer(4, 1)
    network = NeuralNetwork(layer1, layer2)

    print("Stage 1) Random starting weights:")
    network.print_weights()

    inputs = np.array(ZEROS + ONES)
    outputs = np.array([[0] * len(ZEROS) + [1] * len(ONES)]).T
    print(f"\nStage 2) Training, {args.iterations:,} iterations:")
    network.train(inputs, outputs, args.iterations)
    print("\nNew weights after training:")
    network.print_weights()

    print("\nStage 3) A new point, [2, -3]:")
    _, answer = network.forward_propagate([2, -3])  # the hidden layer's outputs, then the answer
    print(answer)


if __name__ == "__main__":
    main()

"""Predict which customers will leave a bank: mixed text and numbers, and imbalanced classes.

Shows the way from a CSV file to a network. pandas reads the file, scikit-learn encodes, scales and
splits the data, and cnet learns the probability that a customer leaves. Only one customer in five
leaves, so a model that always says "stays" is right four times out of five, and useless. Sample weights
give both classes equal importance. Balanced accuracy and the AUC show whether this works.

The file is Churn_Modelling.csv, the 10,000 bank customers used in many tutorials. It is on Kaggle as
"Churn Modelling" (https://www.kaggle.com/datasets/shrutimechlearn/churn-modelling). Download it and
pass its path:

    python examples/bank_customers.py --data Churn_Modelling.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from cnet import Adam, NeuralNetwork

NO_FEATURES = ["RowNumber", "CustomerId", "Surname"]  # these only identify a customer
TEXTS = ["Geography", "Gender"]
TARGET = "Exited"  # 1: the customer has left


def main() -> None:
    """Train on four fifths of the customers, test on the rest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="path of Churn_Modelling.csv"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the split and the network; default: %(default)s",
    )
    args = parser.parse_args()
    if not args.data.is_file():
        parser.error(f"there is no file {args.data}; --help says where to get it")
    customers = pd.read_csv(args.data)
    missing = {*NO_FEATURES, *TEXTS, TARGET}.difference(customers.columns)
    if missing:
        parser.error(f"{args.data} has no column {', '.join(sorted(missing))}")

    features = customers.drop(columns=[*NO_FEATURES, TARGET])
    left = customers[TARGET]
    train_features, test_features, y_train, y_test = train_test_split(
        features, left, test_size=0.2, stratify=left, random_state=args.seed
    )

    # Text becomes columns of 0 and 1, and numbers are scaled to mean 0 and standard deviation 1. Both
    # are fitted on the training set, because the test set must remain unseen.
    encode = make_column_transformer(
        (OneHotEncoder(drop="if_binary", sparse_output=False), TEXTS), remainder=StandardScaler()
    )
    x_train = encode.fit_transform(train_features)
    x_test = encode.transform(test_features)

    network = NeuralNetwork(seed=args.seed)
    network.add_layer(x_train.shape[1], input_layer=True)
    network.add_layer(64, "tanh")
    network.add_layer(1, "sigmoid")

    # "balanced" trains as if half of the customers had left. An output of 0.5, the threshold between
    # "stays" and "leaves", then corresponds to the average customer's real probability of leaving,
    # about 20 %. Without weights it would correspond to 50 %, which few customers ever reach.
    weights = compute_sample_weight("balanced", y_train)
    adam = Adam(weight_decay=0.002)  # keeps weights small, to reduce overfitting
    for learning_rate, epochs in ((0.002, 60), (0.0001, 15)):  # large steps first, then small ones
        history = network.train(
            x_train,
            y_train,
            learning_rate,
            epochs,
            batch_size=64,
            optimizer=adam,
            loss="binary_cross_entropy",
            sample_weight=weights,
            verbose=False,
        )
        print(f"{epochs} epochs at learning rate {learning_rate}: loss {history['loss'][-1]:.4f}")

    chances = network.predict(x_test)[:, 0]
    guesses = {"the network": chances, 'always "stays"': np.zeros(len(y_test))}
    print(f"\n{len(y_test):,} customers held out    accuracy  balanced     AUC")
    for name, guess in guesses.items():
        accuracy = accuracy_score(y_test, guess > 0.5)
        balanced = balanced_accuracy_score(y_test, guess > 0.5)
        auc = roc_auc_score(y_test, guess)
        print(f"{name:24}    {accuracy:8.4f}  {balanced:8.4f}  {auc:6.4f}")

    print()
    print(
        pd.crosstab(
            y_test.map({0: "stayed", 1: "left"}).to_numpy(),
            np.where(network.predict_class(x_test) == 1, "leaves", "stays"),
            rownames=["truth"],
            colnames=["network says"],
        )
    )


if __name__ == "__main__":
    main()

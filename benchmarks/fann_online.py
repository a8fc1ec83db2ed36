"""The online workloads with libfann, for a Python that needs only libfann's binding.

Reads a line of JSON with the training task and prints the mean squared error after training. Each
further line is a number of epochs; the answer is the seconds they took.
"""

import json
import sys
import time

from fann2 import libfann

task = json.loads(sys.stdin.readline())
sigmoid = getattr(libfann, task["sigmoid"])
data = libfann.training_data()
data.set_train_data(task["x"], task["y"])
net = libfann.neural_net()
net.create_standard_array(task["sizes"])
net.randomize_weights(-0.5, 0.5)
net.set_training_algorithm(libfann.TRAIN_INCREMENTAL)
net.set_learning_rate(task["learning_rate"])
# The squared error, as for the other contestants; libfann's default applies an arctangent.
net.set_train_error_function(libfann.ERRORFUNC_LINEAR)
net.set_activation_function_hidden(sigmoid)
net.set_activation_function_output(sigmoid)
# With a steepness of 0.5, the sigmoid is 1 / (1 + exp(-z)).
net.set_activation_steepness_hidden(0.5)
net.set_activation_steepness_output(0.5)
error = 0.0
for _ in range(task["epochs"]):
    error = net.train_epoch(data)
print(error, flush=True)
for line in sys.stdin:
    epochs = int(line)
    start = time.perf_counter()
    for _ in range(epochs):
        net.train_epoch(data)
    print(time.perf_counter() - start, flush=True)

"""Entry point of ``python -m benchmarks``."""

import os

# Limit every library to one thread, before any of them starts its own.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from benchmarks.command_line import main  # noqa: E402

if __name__ == "__main__":
    main()

"""One thread per process: the test files run side by side, and two threads on a busy core wait for each other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

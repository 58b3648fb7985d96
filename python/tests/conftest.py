"""Small layers on one thread: two OpenMP runtimes, torch's and the backend's, would wait on each
other's spinning threads."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

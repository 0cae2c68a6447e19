"""Binaries: flags to a frozen configuration to one library call, then print."""

import os

# Before TensorFlow is imported: its notices would bury a binary's own lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

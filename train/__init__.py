"""Binaries: flags to a frozen configuration to one library call, then print."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"


def _import_tensorflow():
    """Imports TensorFlow with its start-up notices held back, unless it fails.

    They are written before any setting of the log level counts, and would stand
    before every binary's one line about a mistake.
    """
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


_import_tensorflow()

"""Writes and restores the checkpoints of a run, on all of its workers."""

import dataclasses
import pathlib
import tempfile

import keras

from inres_tf.distribution import workers
from inres_tf.distribution.config import WorkerInfo
from inres_tf.training import checkpoints, run_folder
from inres_tf.training.loop import Loop, State


class Checkpointer:
    """Writes and restores the checkpoints of a run.

    Attributes:
        newest: folder of the newest checkpoint; None on workers other than the chief.
    """

    def __init__(self, folder: pathlib.Path, worker: WorkerInfo):
        self.folder, self.worker = folder, worker
        self.newest: pathlib.Path | None = None

    def save(self, loop: Loop) -> None:
        """Writes a checkpoint and the metrics, on the chief."""
        if self.worker.chief:
            self.newest = checkpoints.save(
                self.folder / "checkpoints",
                loop.model,
                dataclasses.asdict(loop.state),
                loop.steps_done,
            )
            run_folder.write_metrics(self.folder, loop.state.history)

    def restore(self) -> tuple[keras.Model, State] | None:
        """Returns the model and state of the newest checkpoint, if there is one."""
        if self.worker.chief:
            self.newest = checkpoints.newest(self.folder / "checkpoints")
        if self.worker.count == 1:
            return self._load(self.newest) if self.newest else None
        # The other workers may not share the chief's disk.
        packed = checkpoints.pack(self.newest) if self.newest else b""
        packed = workers.broadcast(packed)
        if not packed:
            return None
        with tempfile.TemporaryDirectory() as temporary:
            return self._load(checkpoints.unpack(packed, pathlib.Path(temporary)))

    def _load(self, path: pathlib.Path) -> tuple[keras.Model, State]:
        keys = [field.name for field in dataclasses.fields(State)]
        model, state = checkpoints.restore(path, keys)
        return model, State(**state)

"""Short runs, and how they are interrupted."""

from contextlib import contextmanager

import pytest

from selfkd.errors import RunInterruptedError
from selfkd.methods.base import Method
from selfkd.runs.train import run

SHORT = {"backbone.width": 8, "trainer.epochs": 4, "trainer.evaluate_every": 1}


def trained(recipe, tmp_path, **options):
    """The folder of a run that was trained to its end below `tmp_path`."""
    return run(recipe, tmp_path / "runs", show_progress=False, **options)


@contextmanager
def interrupted(epoch, kind=Method):
    """Within this, the training of such a method is interrupted as an epoch begins, counted from 0."""
    begin = Method.begin_epoch

    def stop(self, progress):
        if isinstance(self, kind) and progress.epoch == epoch:
            raise KeyboardInterrupt
        begin(self, progress)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Method, "begin_epoch", stop)
        with pytest.raises(RunInterruptedError, match=rf"stopped after epoch {epoch} of \d+; the same command"):
            yield

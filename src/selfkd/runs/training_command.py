"""What a `TrainingProcess` runs: `python -m selfkd.runs.training_command FOLDER`.

The imports that take seconds come after the handlers of the signals, so that a stop never ends in a traceback.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

from selfkd.signals import leave, leave_when_input_ends, stopping_on_signals
from selfkd.terminal import configure_logging, safe_output


def main(folder: Path) -> None:
    """Train what the parent process has written into a folder. An error is reported there, and ends the process."""
    leave_when_input_ends()
    try:
        with safe_output(), stopping_on_signals():
            _train(folder)
    except KeyboardInterrupt as error:
        leave(128 + getattr(error, "number", signal.SIGINT))
    except Exception as error:  # any error is the parent's to show
        from selfkd.runs.training_process import ErrorReport

        report = ErrorReport.of(error)
        report.write(folder)
        leave(report.exit_status)


def _train(folder: Path) -> None:
    from selfkd.runs.train import run, train_here
    from selfkd.runs.training_process import Training
    from selfkd.training.memory import memory_for
    from selfkd.training.processes import is_main_process, launcher_name

    training = Training.read(folder)
    configure_logging(training.log_level if is_main_process() else logging.ERROR)
    with memory_for("the training", "with more memory the same command continues"):
        if launcher_name() is not None:  # one of several processes, whose parent has made the checks of `run`
            train_here(training)
        else:
            run(
                training.recipe,
                training.runs,
                training.overwrite,
                training.show_progress,
                training.trust_imports,
                training.keep_logits,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

import logging
import re
import sys
from types import SimpleNamespace

from selfkd.training.progress import RunProgressBar


def test_a_line_of_the_log_stands_above_the_bar(capsys, monkeypatch):
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.root, "handlers", [handler])
    bar, trainer = RunProgressBar("digits"), SimpleNamespace(num_training_batches=2, max_epochs=3, global_step=0)
    bar.on_train_start(trainer, None)
    logging.getLogger("selfkd").warning("a line of the log")
    bar.on_train_end(trainer, None)
    lines = [line.strip() for line in re.split(r"[\r\n]", capsys.readouterr().err)]
    assert "a line of the log" in lines
    assert any(line.startswith("digits:") for line in lines)
    assert logging.root.handlers == [handler]

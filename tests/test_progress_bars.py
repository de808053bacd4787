"""Progress bars in a terminal and in a notebook. The test in a notebook needs ipykernel and ipywidgets."""

import ast
import logging
import sys
from pathlib import Path

import pytest
from tqdm.auto import tqdm

import selfkd
from selfkd import progress_bars
from selfkd.progress_bars import log_above_bars
from selfkd.terminal import log_shown

TRAINING = """
import selfkd
run = selfkd.train("demo/digits/resnet18/plain", runs="runs", backbone_width=4, trainer_epochs=2)
print(run.scores["last"]["epoch"], run.predict("digit.png").label in run.class_names)
"""


def test_every_bar_is_one_that_suits_terminal_and_notebook():
    imported = {
        (node.module, alias.name)
        for file in Path(selfkd.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tqdm")
        for alias in node.names
        if file != Path(progress_bars.__file__)
    }
    assert imported == {("tqdm.auto", "tqdm")}


def test_a_line_of_the_log_stands_above_the_bar(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a script; pytest adds some
    with log_shown(), tqdm(total=2, file=sys.stderr) as bar, log_above_bars():
        bar.update()
        logging.getLogger("selfkd").info("a line")
        bar.refresh()
    logging.getLogger("selfkd").info("not shown")
    shown = capsys.readouterr().err
    assert "\ra line\n" in shown
    assert shown.count("a line") == 1
    assert "not shown" not in shown


def test_a_file_of_the_log_gets_every_line_and_the_console_none(tmp_path, capsys, monkeypatch):
    root = logging.getLogger()
    file = logging.FileHandler(tmp_path / "log.txt")
    monkeypatch.setattr(root, "handlers", [file])
    monkeypatch.setattr(root, "level", logging.INFO)
    with log_shown(), log_above_bars():
        logging.getLogger("selfkd").warning("a line")
    file.close()
    assert (tmp_path / "log.txt").read_text() == "a line\n"
    assert capsys.readouterr().err == "", "the program has set up logging, so nothing is added"


def test_a_notebook_shows_widgets_and_the_log(tmp_path):
    pytest.importorskip("ipykernel")
    pytest.importorskip("ipywidgets")
    manager = pytest.importorskip("jupyter_client.manager")
    from image_sets import digit

    digit(0).save(tmp_path / "digit.png")
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    messages = []
    try:
        reply = client.execute_interactive(TRAINING, timeout=300, output_hook=messages.append)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    texts = {"stdout": "", "stderr": ""}
    for message in messages:
        if message["msg_type"] == "stream":
            texts[message["content"]["name"]] += message["content"]["text"]
    assert reply["content"]["status"] == "ok", reply["content"]
    shown = [each["content"]["data"] for each in messages if each["msg_type"] == "display_data"]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown)
    assert texts["stdout"] == "2 True\n"
    assert "train: 100 images" in texts["stderr"]
    assert "%|" not in texts["stderr"], "no bar of text beside the widget"

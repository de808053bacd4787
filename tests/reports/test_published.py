from dataclasses import replace

import pytest

from selfkd.recipes.files import recipe_names, recipe_summary
from selfkd.recipes.reader import resolve
from selfkd.reports.published import figures_for, figures_of, is_unchanged, rule_of, selected, verdict
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder

DTSKD = "dtskd/cifar100/resnet18/dtskd"
LOTH = "loth/cifar100/resnet18/loth"
ONE = "teskd/cifar100/resnet18/one"


@pytest.fixture
def finished(tmp_path):
    """`finished(last, best, own, **selection)`: a folder with the accuracies of main and fusion.

    `last` and `best` are of main, those of fusion one point higher. `own` is fusion's accuracy after each epoch.
    """

    def make(last, best, own=(), **selection):
        folder = RunFolder(tmp_path)
        scores = {
            which: {
                "epoch": 1,
                "scores": {
                    "test": {
                        head: {"top1": {"value": value + more, "unit": "%", "n": 100}}
                        for head, more in (("main", 0.0), ("fusion", 1.0))
                    }
                },
            }
            for which, value in (("last", last), ("best", best))
        }
        write_json(
            folder.scores_file,
            {
                "recipe": LOTH,
                "method": "loth",
                "selection": {"rule": "best-on-test", "after_epoch": 0, **selection},
                "seconds": {"train_epoch_median": 1.0},
                **scores,
            },
        )
        rows = [f"{epoch},1.0,1.0,{value}" for epoch, value in enumerate(own, start=1)]
        folder.metrics_file.write_text("\n".join(["epoch,train/loss,seconds/train,test/top1/fusion", *rows]) + "\n")
        return folder

    return make


def test_the_figures_of_a_recipe_are_those_of_the_papers_tables():
    (figure,) = figures_of(DTSKD)
    assert (figure.head, figure.value, figure.std, figure.source) == ("main", 80.46, None, "DTSKD, Table 1")
    assert (figure.reduce, figure.selection) == ("mean of 3 runs", "best-on-test over the last 99 epochs")
    assert [(figure.head, figure.value) for figure in figures_of("loth/imagenet/resnet18/loth")] == [
        ("main", 70.74),
        ("fusion", 71.248),
    ]
    assert [figure.source for figure in figures_of("loth/imagenet/resnet18/loth")] == [
        "LOTH, supplementary Table 1",
        "LOTH, published log",
    ]
    assert [(figure.value, figure.std) for figure in figures_of("teskd/cifar100/resnet18/plain")] == [(74.40, 0.08)]


def test_a_figure_can_be_the_mean_over_the_branches():
    (figure,) = figures_of(ONE)
    assert (figure.heads, figure.value, figure.std) == (("main", "branch1", "branch2"), 77.01, 0.28)
    assert figure.head == "mean of main, branch1, branch2"
    assert recipe_summary(ONE).endswith("; published 77.01 (mean of main, branch1, branch2): TESKD, Table 1")
    assert recipe_summary(DTSKD).endswith("; published 80.46: DTSKD, Table 1")


@pytest.mark.parametrize(
    "name", ["dtskd/cifar100/resnet18/dml", f"{DTSKD}+seed=1", "no/such/recipe", "my.yaml", "parts/dtskd_cifar100"]
)
def test_other_names_have_no_figures(name):
    assert figures_of(name) == ()


def test_a_run_has_the_figures_of_its_recipe_unless_it_is_another_method():
    assert figures_for(resolve(DTSKD, {"seed": 1})) == figures_of(DTSKD)
    assert figures_for(resolve(DTSKD, {"trainer.epochs": 15})) == figures_of(DTSKD)
    assert figures_for(resolve("dtskd/cifar100/resnet18/plain", {"method": "loth"})) == ()
    assert figures_for(resolve(DTSKD, {"backbone": "vgg16_cifar"})) == ()
    assert figures_for(resolve("demo/digits/resnet18/plain")) == ()


def test_the_rule_of_every_figure_is_known():
    figures = [figure for name in recipe_names() for figure in figures_of(name)]
    assert {rule_of(figure) for figure in figures} == {"best-on-test", "last"}
    alone = {figure.head for figure in figures if f"{figure.head} at its own" in figure.selection}
    assert alone == {"fusion", "ensemble"}
    with pytest.raises(ValueError, match="must begin with best-on-test or last"):
        rule_of(replace(figures[0], selection="by a feeling"))


def test_a_recipe_is_unchanged_if_only_seed_and_machine_differ():
    machine = {"seed": 2, "data.root": "elsewhere", "trainer.compile": "default", "loader.workers": 1}
    assert is_unchanged(resolve(DTSKD, machine))
    assert not is_unchanged(resolve(DTSKD, {"trainer.epochs": 15}))
    assert not is_unchanged(resolve(DTSKD, {"trainer.epochs": 15, "name": DTSKD})), "a name does not hide a change"
    assert not is_unchanged(resolve(DTSKD, {"name": "mine"}))


def test_what_leaves_the_training_as_it_is_leaves_the_recipe_unchanged():
    harmless = {"trainer.loggers": ["csv", "tensorboard"], "trainer.guard_every": 50, "trainer.accelerator": "cpu"}
    assert is_unchanged(resolve(DTSKD, harmless))
    assert not is_unchanged(resolve(DTSKD, {**harmless, "optimizer.lr": 0.2}))


def test_the_epoch_is_selected_as_the_papers_was(finished):
    main, fusion = (next(figure for figure in figures_of(LOTH) if figure.head == head) for head in ("main", "fusion"))
    folder = finished(last=78.0, best=81.0, own=[83.0, 82.5, 80.0])
    assert selected(main, folder) == 81.0
    assert selected(fusion, folder) == 83.0, "LOTH reports fusion at its own best epoch"
    assert selected(replace(fusion, selection="best-on-test over all epochs"), folder) == 82.0, "where main was best"
    assert selected(replace(main, selection="last (as the paper says)"), folder) == 78.0
    assert selected(replace(main, heads=("branch9",)), folder) is None


def test_a_head_by_itself_is_sought_after_the_same_epoch_as_main(finished):
    fusion = figures_of(LOTH)[-1]
    assert selected(fusion, finished(78.0, 81.0, [83.0, 82.5, 80.0], after_epoch=1)) == 82.5
    assert selected(fusion, finished(78.0, 81.0, [], after_epoch=0)) is None, "its epochs are not logged"


@pytest.mark.parametrize(
    ("selection", "value"), [("best-on-test over all epochs", 81.5), ("last", 78.5), ("last, mean at its own", 78.5)]
)
def test_the_accuracies_of_several_heads_are_averaged(finished, selection, value):
    (figure,) = figures_of(ONE)
    both = replace(figure, heads=("main", "fusion"), selection=selection)
    folder = finished(last=78.0, best=81.0)
    assert selected(both, folder) == value
    assert selected(replace(both, heads=("main", "branch9")), folder) is None, "one head is missing"


def test_the_mean_over_heads_has_a_best_epoch_of_its_own(finished):
    folder = finished(78.0, 81.0)
    (figure,) = figures_of(ONE)
    own = replace(figure, heads=("main", "fusion"), selection="best-on-test, mean of main, fusion at its own")
    rows = ["epoch,train/loss,seconds/train,test/top1/main,test/top1/fusion"]
    rows += ["1,1.0,1.0,81.0,70.0", "2,1.0,1.0,80.0,79.0", "3,1.0,1.0,70.0,82.0"]
    folder.metrics_file.write_text("\n".join(rows) + "\n")
    assert selected(own, folder) == 79.5


@pytest.mark.parametrize("selection", [{"rule": "best-on-validation"}, {"metric": "nll"}])
def test_a_run_that_selected_otherwise_has_no_value_of_the_figure(finished, selection):
    main = figures_of(LOTH)[0]
    folder = finished(78.0, 81.0, **selection)
    assert selected(main, folder) is None
    assert selected(replace(main, selection="last"), folder) == 78.0


@pytest.mark.parametrize(
    ("ours", "kind", "difference", "words"),
    [
        ([80.46] * 3, "reproduced", 0.0, "reproduced"),
        ([80.76] * 3, "reproduced", 0.3, "reproduced"),
        ([80.77] * 3, "not reproduced", 0.31, "not reproduced: 0.31 above"),
        ([80.16] * 3, "reproduced", -0.3, "reproduced"),
        ([80.15] * 3, "not reproduced", -0.31, "not reproduced: 0.31 below"),
        ([79.86, 79.46, 80.26], "reproduced", -0.6, "reproduced"),  # the standard deviation is 0.4
        ([79.6, 79.2, 80.0], "not reproduced", -0.86, "not reproduced: 0.86 below"),
        ([80.46, 80.46], "too few seeds", 0.0, "too few seeds (2 of 3)"),
        ([], "too few seeds", None, "too few seeds (0 of 3)"),
    ],
)
def test_verdicts_at_their_limits(ours, kind, difference, words):
    (figure,) = figures_of(DTSKD)
    found = verdict(figure, ours, unchanged=True)
    assert (found.kind, found.words) == (kind, words)
    assert found.difference == (None if difference is None else pytest.approx(difference))


def test_a_changed_recipe_is_not_compared():
    (figure,) = figures_of(DTSKD)
    found = verdict(figure, [80.46] * 3, unchanged=False)
    assert (found.kind, found.difference, found.words) == ("another budget", None, "another budget (not comparable)")

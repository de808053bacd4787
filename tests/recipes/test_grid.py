import inspect
from pathlib import Path

import pytest

import selfkd.recipes
from selfkd import DatasetInfo, create_backbone
from selfkd.backbones.pretrained import preprocessing_of
from selfkd.errors import BackboneError, RecipeError
from selfkd.methods import METHODS
from selfkd.recipes.files import read_recipe, recipe_names
from selfkd.recipes.grid import expand, name_of_heads
from selfkd.recipes.reader import resolve
from selfkd.training import OPTIMIZERS, SCHEDULES

GRID = {
    "include": "parts/dtskd_cifar100",
    "backbones": {
        "small": {"backbone": "resnet18_cifar", "backbone.width": 8},
        "large": {"backbone": "resnet34_cifar", "with": {"dtskd": {"method.beta_max": 0.5, "method.beta_min": 0.2}}},
    },
    "methods": {
        "plain": {"method": "plain"},
        "dtskd": {"method": "dtskd", "method.beta_max": 0.9},
        "dtskd-tenth": {"method.beta_max": 0.1, "method.beta_min": 0.1},
    },
    "reduce": "mean of 3 runs",
    "selection": "last epoch",
    "published": {
        "Table 1": {
            "plain": {"small": 70.0, "large": 71.0},
            "dtskd": {"small": [72.5, 0.3], "large": {"main": 73.0, "branch1": 70.1}},
        },
        "Table 2": {"dtskd": {"small": {"branch2": 69.9}}, "dtskd-tenth": {"large": 72.0}},
    },
    "unpublished": {"dtskd-tenth": ["small"]},
}


def test_every_figure_is_a_recipe_and_says_where_it_stands():
    cells = expand("paper/cifar100", GRID)
    assert sorted(cells) == [
        "paper/cifar100/large/dtskd",
        "paper/cifar100/large/dtskd-tenth",
        "paper/cifar100/large/plain",
        "paper/cifar100/small/dtskd",
        "paper/cifar100/small/dtskd-tenth",
        "paper/cifar100/small/plain",
    ]
    assert cells["paper/cifar100/small/dtskd"]["published"] == {
        "value": 72.5,
        "std": 0.3,
        "heads": ["main"],
        "reduce": "mean of 3 runs",
        "selection": "last epoch",
        "source": "Table 1",
        "other_heads": {"branch2": 69.9},
        "other_heads_source": "Table 2",
    }
    assert cells["paper/cifar100/large/dtskd"]["published"]["other_heads"] == {"branch1": 70.1}
    assert "published" not in cells["paper/cifar100/small/dtskd-tenth"]


def test_a_figure_can_be_the_mean_over_several_heads():
    cells = expand("paper/cifar100", {**GRID, "averaged": {"dtskd": ["main", "branch1"]}})
    small, large, plain = (
        cells[f"paper/cifar100/{name}"]["published"] for name in ("small/dtskd", "large/dtskd", "small/plain")
    )
    assert (small["value"], small["std"], small["heads"]) == (72.5, 0.3, ["main", "branch1"])
    assert (large["value"], large["heads"]) == (73.0, ["main"]), "its table names the head"
    assert plain["heads"] == ["main"]
    assert name_of_heads(["main"]) == "main"
    assert name_of_heads(["main", "branch1", "branch2"]) == "mean of main, branch1, branch2"


def test_an_ablation_wins_over_the_backbone_and_the_backbone_over_the_method():
    cells = expand("paper/cifar100", GRID)
    assert cells["paper/cifar100/small/dtskd"]["method.beta_max"] == 0.9
    assert cells["paper/cifar100/large/dtskd"]["method.beta_max"] == 0.5
    ablation = cells["paper/cifar100/large/dtskd-tenth"]
    assert (ablation["method"], ablation["method.beta_max"], ablation["method.beta_min"]) == ("dtskd", 0.1, 0.1)
    plain = cells["paper/cifar100/large/plain"]
    assert not [key for key in plain if key.startswith("method.") or key == "with"]


WITH_ONE_ABLATION = {
    **GRID,
    "backbones": {**GRID["backbones"], "small": {**GRID["backbones"]["small"], "with": {"-short": {"seed": 2}}}},
    "methods": {**GRID["methods"], "-short": {"trainer.epochs": 5, "seed": 1}},
    "unpublished": {"dtskd-tenth": ["small"], "plain-short": "all", "dtskd-short": ["small"]},
}


def test_an_ablation_of_several_methods_is_said_once():
    cells = expand("paper/cifar100", WITH_ONE_ABLATION)
    assert {name for name in cells if name.endswith("-short")} == {
        "paper/cifar100/small/plain-short",
        "paper/cifar100/large/plain-short",
        "paper/cifar100/small/dtskd-short",
    }
    dtskd, plain = (cells[f"paper/cifar100/{name}-short"] for name in ("small/dtskd", "large/plain"))
    assert (dtskd["method.beta_max"], dtskd["trainer.epochs"], dtskd["seed"]) == (0.9, 5, 2)
    assert (plain["method"], plain["trainer.epochs"], plain["seed"]) == ("plain", 5, 1)
    assert "trainer.epochs" not in cells["paper/cifar100/small/dtskd-tenth"]


def test_a_grid_without_figures_has_the_pairs_alone():
    grid = {key: GRID[key] for key in ("include", "backbones", "methods")}
    expanded = expand("own/cifar100", {**grid, "unpublished": {"plain": "all", "dtskd-tenth": "all"}})
    assert sorted(expanded) == [
        f"own/cifar100/{network}/{method}" for network in ("large", "small") for method in ("dtskd-tenth", "plain")
    ]
    assert not any("published" in cell for cell in expanded.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {**GRID["methods"], "-short": {}}}, "methods defined and used differ in -short"),
        (
            {"unpublished": {"plain-short": "all"}},
            "methods defined and used differ in plain-short",
        ),
        (
            {"published": {**GRID["published"], "B": {"dtskt": {"small": 1.0}}}},
            "methods defined and used differ in dtskt",
        ),
        (
            {"published": {**GRID["published"], "B": {"plain": {"tiny": 1.0}}}},
            "backbones defined and used differ in tiny",
        ),
        (
            {"published": {**GRID["published"], "B": {"plain": {"small": 2.0}}}},
            "plain on small is in Table 1 and B; give it once",
        ),
        ({"publishd": {}}, "unknown: publishd"),
        ({"methods": {**GRID["methods"], "dtskd-unused": {}}}, "methods defined and used differ in dtskd-unused"),
        (
            {"backbones": {**GRID["backbones"], "small": {"backbone": "resnet18_cifar", "with": {"dtsdk": {}}}}},
            "a backbone's with names dtsdk, which no table uses",
        ),
        ({"averaged": {"one": ["main", "branch1"]}}, "averaged names one, which no table uses"),
        (
            {"published": {"Table 0": {"dtskd": {"small": {"branch1": 1.0}}}, **GRID["published"]}},
            "dtskd on small has no figure of the head main in Table 0 or before it",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        expand("paper/cifar100", {**GRID, **change})


def published(prefix, method, backbone="resnet18"):
    return resolve(f"{prefix}/{backbone}/{method}").published


def test_the_tables_of_the_papers_are_complete():
    def count(prefix):
        return sum(name.startswith(f"{prefix}/") for name in recipe_names())

    assert count("teskd/cifar100") == 7 * 6 + 4 + 4 + 2 + 1 + 2
    assert count("dtskd/cifar100") == 6 * 6 + 1 + 6 + 4 + 4 + 12 + 9 + 6 + 3
    assert count("loth/cifar100") == 2 * (8 + 2) + 8
    assert count("loth/tiny_imagenet") == 2 * 8 + 3 + 3
    assert count("teskd/imagenet") == 4
    assert count("dtskd/imagenet") == 2 * 4 + 4
    assert count("loth/imagenet") == 6


NETWORKS = [
    "convnext_tiny",
    "efficientnet_b0",
    "mobilenetv3_large_100",
    "resnet18",
    "resnet50",
    "vit_small_patch16_224",
]


ON_CONVOLUTIONAL = ("beed", "byot", "ecsd", "frskd", "teskd")


def test_photographs_have_every_method_on_every_network_on_which_it_works():
    convolutional = [network for network in NETWORKS if not network.startswith("vit_")]
    pairs = [(network, method) for network in NETWORKS for method in ("dtskd", "loth", "plain", "ps_kd")]
    pairs += [(network, method) for network in convolutional for method in ON_CONVOLUTIONAL]
    expected = {f"photos/folder/{network}/{method}{end}" for network, method in pairs for end in ("", "-pretrained")}
    assert {name for name in recipe_names() if name.startswith("photos/")} == expected
    with pytest.raises(BackboneError, match="TESKD needs stages that halve; the stages and the last map"):
        METHODS.load("teskd")(create_backbone("vit_small_patch16_224", 10), DatasetInfo(20, 10))


@pytest.mark.parametrize("network", NETWORKS)
def test_recipes_for_photographs_differ_in_the_method_or_in_the_start_alone(network):
    def training(method):
        flat = resolve(f"photos/folder/{network}/{method}").flat()
        return {key: value for key, value in flat.items() if not key.startswith(("name", "method"))}

    methods = ("dtskd", "loth", "ps_kd", *(() if network.startswith("vit_") else ON_CONVOLUTIONAL))
    assert all(training(method) == training("plain") for method in methods)
    scratch, pretrained = training("plain"), training("loth-pretrained")
    assert pretrained["optimizer.lr"] == pytest.approx(scratch["optimizer.lr"] / 10)
    assert (scratch["optimizer.head_lr_factor"], pretrained["optimizer.head_lr_factor"]) == (1, 10)
    assert (scratch["backbone.pretrained"], pretrained["backbone.pretrained"]) == (False, True)
    assert (scratch["data.image_size"], pretrained["data.image_size"], pretrained["augmentation.size"]) == (224,) * 3
    published = preprocessing_of(network)
    assert pretrained["data.mean"] == list(published.mean)
    assert pretrained["data.interpolation"] == pretrained["augmentation.interpolation"] == published.interpolation
    assert {key for key in scratch if scratch[key] != pretrained[key]} <= {
        "backbone.pretrained",
        "optimizer.lr",
        "optimizer.head_lr_factor",
        "schedule.warmup_epochs",
        "trainer.epochs",
        "data.mean",
        "data.std",
        "data.interpolation",
        "data.resize",
        "augmentation.interpolation",
    }


def test_the_methods_have_their_options_on_imagenet():
    grids = {"teskd": "teskd", "dtskd": "dtskd", "ps_kd": "dtskd", "frskd": "dtskd"}
    for ours, theirs in {**grids, **dict.fromkeys(("loth", "byot", "ecsd", "beed"), "loth")}.items():
        options = resolve(f"photos/folder/resnet18/{ours}").options["method"]
        assert options == resolve(f"{theirs}/imagenet/resnet18/{ours}").options["method"]


def test_figures_of_several_heads_come_along():
    assert published("loth/cifar100", "loth") == {
        "value": 81.24,
        "heads": ["main"],
        "reduce": "single run",
        "selection": "best-on-test, branches at main's best epoch, fusion at its own",
        "source": "LOTH, Table 1",
        "other_heads": {"branch1": 78.47, "branch2": 79.53, "branch3": 80.90, "fusion": 82.08},
    }
    without_history = published("dtskd/cifar100", "dtskd-structure_only")
    assert (without_history["source"], without_history["other_heads_source"]) == ("DTSKD, Table 6", "DTSKD, Table 12")
    assert without_history["other_heads"]["branch1"] == 79.12


# The figures of the methods that grow structure (specification, sections A1 to A6): the networks in the tables' order.
TESKD_TABLE_1 = ["vgg16", "vgg19", "resnet18", "resnet34", "seresnet34", "resnext18", "resnext34"]
DTSKD_TABLE_1 = ["vgg11", "vgg16", "resnet18", "resnext18", "seresnet34", "shufflenetv2"]
TABLES = [
    ("teskd/cifar100", "one", TESKD_TABLE_1, [73.24, 72.13, 77.01, 77.24, 76.19, 77.42, 78.25]),
    ("teskd/cifar100", "byot", TESKD_TABLE_1, [73.70, 74.18, 77.22, 77.93, 77.58, 74.28, 75.23]),
    ("teskd/cifar100", "frskd", TESKD_TABLE_1, [69.24, 70.38, 77.51, 77.58, 77.46, 78.13, 77.11]),
    ("dtskd/cifar100", "byot", DTSKD_TABLE_1, [72.79, 75.56, 78.21, 79.47, 80.03, 72.18]),
    ("dtskd/cifar100", "dks", DTSKD_TABLE_1, [72.81, 74.34, 79.56, 80.16, 80.22, 72.78]),
    ("dtskd/cifar100", "frskd", DTSKD_TABLE_1, [70.08, 73.76, 79.34, 80.12, 78.93, 73.86]),
    ("teskd/imagenet", "byot", ["resnet18"], [69.84]),
    ("teskd/imagenet", "frskd", ["resnet18"], [70.17]),
    ("dtskd/imagenet", "frskd", ["resnet18", "vgg16"], [70.23, 72.73]),
    ("loth/imagenet", "byot", ["resnet18"], [69.84]),
    ("loth/imagenet", "ecsd", ["resnet18"], [70.51]),
    ("loth/imagenet", "beed", ["resnet18"], [70.28]),
    ("loth/imagenet", "dtskd", ["resnet18"], [70.39]),
]


@pytest.mark.parametrize(("grid", "method", "networks", "figures"), TABLES)
def test_figures_of_methods_that_grow_structure(grid, method, networks, figures):
    records = {network: read_recipe(f"{grid}/{network}/{method}")["published"] for network in networks}
    assert {network: record["value"] for network, record in records.items()} == dict(
        zip(networks, figures, strict=True)
    )
    averaged = ["main", "branch1", "branch2"] if method == "one" else ["main"]
    assert all(record["heads"] == averaged for record in records.values())


def test_every_exit_of_the_posters_table_4_and_the_fusion_of_all_has_its_figure():
    figures = {
        "byot": (44.83, 53.26, 57.80, 58.97, 61.32),
        "ecsd": (47.09, 53.91, 57.34, 59.03, 60.51),
        "beed": (59.20, 60.25, 60.52, 61.11, 64.13),
    }
    for method, expected in figures.items():
        record = published("loth/tiny_imagenet", method)
        assert (*record["other_heads"].values(), record["value"]) == (*expected[:3], expected[4], expected[3])
        assert list(record["other_heads"]) == ["branch1", "branch2", "branch3", "ensemble"]
        assert record["source"] == "LOTH, Table 4"
    assert resolve("loth/tiny_imagenet/resnet18/byot").options["method"]["exit_form"] == "loth"
    ecsd = resolve("loth/tiny_imagenet/resnet18/ecsd").options["method"]
    assert (ecsd["exit_form"], ecsd["target"]) == ("loth", "mean")
    byot = published("dtskd/cifar100", "byot")
    assert (byot["value"], byot["source"]) == (78.21, "DTSKD, Table 1")
    assert (byot["other_heads"], byot["other_heads_source"]) == (
        {"branch1": 68.53, "branch2": 74.70, "branch3": 77.65},
        "DTSKD, Table 12",
    )


def test_every_block_of_the_posters_chart_has_a_recipe_on_every_network():
    blocks = {
        network: {
            resolve(name).options["method"]["block"]
            for name in recipe_names()
            if name.startswith(f"loth/cifar100/{network}/loth")
        }
        for network in ("resnet18", "vgg16", "mobilenetv1", "shufflenetv1")
    }
    assert all(each == {"bn", "gbn", "dsc"} for each in blocks.values())
    chart = [published("loth/cifar100", f"loth-{block}", network) for block, network in CHART]
    assert {record["source"] for record in chart} == {"LOTH, Fig. 4 (read off the chart, ± 0.2)"}
    figures = [[*record["other_heads"].values()] for record in chart]
    assert [[*three, record["value"], fusion] for (*three, fusion), record in zip(figures, chart, strict=True)] == [
        *CHART.values()
    ]


# block and network: exits 1 to 4 and fusion (specification of the papers' own methods, section 3.6)
CHART = {
    ("gbn", "resnet18"): [75.5, 78.0, 80.2, 80.5, 81.4],
    ("dsc", "resnet18"): [71.0, 77.0, 79.6, 80.2, 80.6],
    ("gbn", "vgg16"): [74.1, 74.9, 76.3, 76.5, 77.4],
    ("dsc", "vgg16"): [72.1, 74.9, 76.3, 76.4, 77.4],
    ("bn", "mobilenetv1"): [79.2, 79.5, 79.5, 79.2, 81.8],
    ("dsc", "mobilenetv1"): [72.7, 74.8, 77.7, 77.8, 79.1],
    ("bn", "shufflenetv1"): [77.0, 77.5, 78.3, 75.2, 80.0],
    ("dsc", "shufflenetv1"): [63.4, 71.1, 74.6, 75.0, 76.6],
}

OF_STRUCTURE = {"byot", "ecsd", "beed", "dks", "frskd", "one"}


@pytest.mark.parametrize("name", [name for name in recipe_names() if read_recipe(name)["method"] in OF_STRUCTURE])
def test_no_option_of_a_method_that_grows_structure_is_left_to_its_default(name):
    recipe = resolve(name)
    written = {key.removeprefix("method.") for key in read_recipe(name) if key.startswith("method.")}
    assert written == set(recipe.options["method"])


def test_the_share_of_the_ramp_is_the_methods_own():
    default = inspect.signature(METHODS.load("one")).parameters["ramp_share"].default
    assert resolve("teskd/cifar100/resnet18/one").options["method"]["ramp_share"] == default


def test_what_a_network_needs_is_in_its_recipe_alone():
    def options(backbone, method="dtskd"):
        return resolve(f"dtskd/cifar100/{backbone}/{method}").options["method"]

    assert (options("resnet18")["historical_weight"], options("vgg16")["historical_weight"]) == (0.2, 0.6)
    assert options("resnext18")["structural_weight"] == 0.2
    assert options("vgg16", "dtskd-weights_0.8_0.2")["historical_weight"] == 0.8
    assert options("shufflenetv2", "dtskd-linear")["lateral"] == "convolved"
    assert options("resnet18")["lateral"] == "pooled"
    chains = {
        backbone: resolve(f"loth/cifar100/{backbone}/loth").options["method"] for backbone in ("vgg16", "mobilenetv2")
    }
    assert (chains["vgg16"]["block"], chains["mobilenetv2"]["block"]) == ("bn", "gbn")
    assert chains["mobilenetv2"]["chain_channels"] == (256, 512)
    assert [options(backbone, "dks")["last_width_factor"] for backbone in ("vgg11", "vgg16", "resnet18")] == [1, 1, 2]
    assert resolve("loth/cifar100/resnet18/plain").options["backbone"]["initialization"] == "fan_out"
    assert resolve("teskd/cifar100/resnet18/plain").options["backbone"]["initialization"] == "pytorch"


def test_no_connection_is_without_the_lateral_of_the_last_stage():
    recipe = resolve("teskd/cifar100/resnet18/teskd-no_connection")
    assert (recipe.options["method"]["fusion"], recipe.options["method"]["top_lateral"]) == ("none", False)
    assert (recipe.published["value"], recipe.published["source"]) == (78.40, "TESKD, Table 4")
    with_lateral = resolve("teskd/cifar100/resnet18/teskd-fusion_none")
    assert with_lateral.options["method"]["top_lateral"] is True
    assert not with_lateral.published


PARTS = sorted(f"parts/{file.stem}" for file in (Path(selfkd.recipes.__file__).parent / "parts").glob("*.yaml"))
CHOSEN = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
NO_DEFAULT = {"data", "augmentation", "loader.batch_size", "trainer.epochs", "trainer.precision", *CHOSEN}
NEUTRAL = {"schedule.warmup_epochs"}  # 0 is none, and none of the papers has one


@pytest.mark.parametrize("name", [*PARTS, *recipe_names()])
def test_no_part_and_no_recipe_leaves_how_it_trains_to_a_default(name):
    given = set(read_recipe(name))
    assert given >= NO_DEFAULT
    for section, catalogue in CHOSEN.items():
        options = inspect.signature(catalogue.load(read_recipe(name)[section])).parameters.values()
        keys = {f"{section}.{option.name}" for option in options if option.kind is option.KEYWORD_ONLY}
        assert given >= keys - NEUTRAL


# grid: epochs, the epochs after which the learning rate drops, Nesterov, batch, weight decay (specification, sections
# 1.4, 2.4 and 3.4; batch and weight decay of LOTH on ImageNet are not known)
TRAINED = {
    "teskd/cifar100": (200, [100, 150], True, 128, 5e-4),
    "teskd/imagenet": (90, [30, 60], True, 256, 1e-4),
    "dtskd/cifar100": (300, [150, 225], True, 128, 5e-4),
    "dtskd/imagenet": (90, [30, 60], True, 256, 1e-4),
    "loth/cifar100": (200, [75, 130, 180], False, 128, 5e-4),
    "loth/tiny_imagenet": (200, [75, 130, 180], False, 128, 5e-4),
    "loth/imagenet": (100, [30, 60, 90], False, 256, 1e-4),
}


@pytest.mark.parametrize("name", [name for name in recipe_names() if not name.startswith(("demo/", "photos/"))])
def test_every_cell_of_a_table_is_trained_as_published(name):
    epochs, drops, nesterov, batch, weight_decay = TRAINED[name.rsplit("/", 2)[0]]
    given = read_recipe(name)
    assert given["trainer.epochs"] == epochs
    assert [share * epochs for share in given["schedule.milestones"]] == pytest.approx(drops, abs=1e-6)
    assert (given["schedule.gamma"], given["optimizer.lr"], given["optimizer.momentum"]) == (0.1, 0.1, 0.9)
    assert given["optimizer.nesterov"] is nesterov
    assert (given["loader.batch_size"], given["optimizer.weight_decay"]) == (batch, weight_decay)


PROTOCOLS = {
    "teskd": {
        "trainer.epochs": 200,
        "trainer.best_after_epoch": 150,
        "optimizer.nesterov": True,
        "schedule.milestones": [0.5, 0.75],
        "augmentation.padding_mode": "zeros",
        "data.mean": [0.4914, 0.4822, 0.4465],
        "trainer.precision": "bf16-mixed",
    },
    "loth": {
        "trainer.epochs": 200,
        "trainer.best_after_epoch": 0,
        "optimizer.nesterov": False,
        "schedule.milestones": [75 / 200, 130 / 200, 180 / 200],
        "augmentation.padding_mode": "reflect",
        "data.mean": [0.5071, 0.4867, 0.4408],
        "trainer.precision": "32",
    },
}
SHARED = {"loader.batch_size": 128, "optimizer.lr": 0.1, "optimizer.momentum": 0.9, "optimizer.weight_decay": 5e-4}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_published_protocols(protocol):
    for method in ("plain", protocol):
        flat = resolve(f"{protocol}/cifar100/resnet18/{method}").flat()
        expected = {**PROTOCOLS[protocol], **SHARED}
        assert {key: flat[key] for key in expected} == expected


def test_the_published_protocols_on_larger_images():
    flat = resolve("dtskd/imagenet/resnet18/dtskd").flat()
    expected = {
        "trainer.epochs": 90,
        "loader.batch_size": 256,
        "optimizer.weight_decay": 1e-4,
        "augmentation.size": 224,
        "method.historical_weight": 0.9,
        "method.head_weights": [4, 1, 1, 1],
        "method.beta_max": 1,
        "method.beta_min": 0.8,
    }
    assert {key: flat[key] for key in expected} == expected
    steps = [round(share * 90 * 5005) / 5005 for share in flat["schedule.milestones"]]
    assert steps == [30, 60], "epochs of ImageNet's 5005 steps"
    tiny = resolve("loth/tiny_imagenet/resnet18/loth").flat()
    assert (tiny["data.image_size"], tiny["augmentation.padding_mode"]) == (32, "zeros")
    assert tiny["data.mean"] == [0.485, 0.456, 0.406]

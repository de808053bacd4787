def test_order_patterns_and_missing_recipes(benchmark, tmp_path):
    file = tmp_path / "queue.yaml"
    file.write_text(
        """
- title: one
  seeds: [0, 1]
  recipes: [dtskd/cifar100/vgg16/dtskd, loth/cifar100/vgg16/plain, dtskd/cifar100/vgg16/nothing]
- title: two
  seeds: [0]
  recipes: [loth/cifar100/vgg1*/plain, nowhere/*]
"""
    )
    items, missing = benchmark.read_queue(file)
    assert [str(item) for item in items] == [
        "dtskd/cifar100/vgg16/dtskd seed 0",
        "loth/cifar100/vgg16/plain seed 0",
        "dtskd/cifar100/vgg16/dtskd seed 1",
        "loth/cifar100/vgg16/plain seed 1",
        "loth/cifar100/vgg19/plain seed 0",
    ]
    assert missing == ["dtskd/cifar100/vgg16/nothing", "nowhere/*"]


def test_the_queue_begins_with_the_claims_that_matter(benchmark):
    items, missing = benchmark.read_queue()
    assert [str(item) for item in items[:7]] == [
        "dtskd/cifar100/resnet18/plain seed 0",
        "dtskd/cifar100/resnet18/dtskd seed 0",
        "loth/cifar100/resnet18/loth seed 0",
        "loth/cifar100/resnet18/plain seed 0",
        "teskd/cifar100/resnet18/teskd seed 0",
        "teskd/cifar100/resnet18/plain seed 0",
        "dtskd/cifar100/resnet18/plain seed 1",
    ]
    ablations = [item for item in items if "-" in item.recipe.rsplit("/", 1)[1]]
    assert items[-len(ablations) :] == ablations
    assert all("*" not in name for name in missing), "a pattern that matches nothing is a mistake"


def test_a_trial_never_takes_the_recipes_name(benchmark):
    item = benchmark.Item("loth/cifar100/shufflenetv1/loth", 2)
    tiny, full = (benchmark.recipe_of(item, benchmark.Place("nowhere", tiny)) for tiny in (True, False))
    assert tiny.name == benchmark.run_name(item, tiny=True) != full.name == item.recipe
    assert (tiny.seed, full.seed) == (2, 2)
    assert full.options["trainer"]["epochs"] == 200
    assert full.published
    assert not tiny.published

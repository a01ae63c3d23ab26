"""Samples of a step, learning rates, recipes."""

import numpy as np
import pytest
import torch

from corrbench.datasets.videos import Index
from corrbench.errors import Refusal, explain
from corrbench.pretraining.crw import Options
from corrbench.pretraining.order import TRIES, Budget, Order, StepData, Steps, loader
from corrbench.pretraining.recipe import TIERS, Recipe, options_of
from corrbench.pretraining.schedule import factor, total_steps
from corrbench.resources import HOME as ROOT
from corrbench.rows import Rows

RECIPES = Rows([ROOT / "config"], "recipes", "recipe")


class Numbers:
    """Epochs of about `count` samples; the first call gives exactly as many."""

    def __init__(self, count):
        self.count, self.calls = count, 0

    def epoch(self, index, rng):
        self.calls += 1
        return rng.permutation(self.count + (self.calls - 1) % 3)[:, None]


def test_every_sample_once_an_epoch_over_all_processes():
    order = Order(Numbers(22), Index(()), 0, 4, drop_last=True)
    assert order.steps == 5
    seen = [p for step in range(5) for rank in range(2) for p in order.positions(step, rank, 2)]
    assert seen == [(0, i) for i in range(20)] and order.positions(5, 1, 2) == [(1, 2), (1, 3)]
    assert len(order.samples(0)) == len(order.samples(1)) == 22


def test_the_last_batch_may_be_smaller():
    order = Order(Numbers(22), Index(()), 0, 4, drop_last=False)
    assert order.steps == 6 and len(order.positions(5, 0, 1)) == 2 and len(order.positions(5, 1, 2)) == 1
    for count in (20, 21, 22, 23):  # never a step in which a process has nothing
        order = Order(Numbers(count), Index(()), 0, 4, drop_last=False, world=2)
        assert all(len(order.positions(step, 1, 2)) for step in range(order.steps))


def test_orders_depend_on_seed_and_epoch_only():
    a, b, c = (Order(Numbers(30), Index(()), seed, 4, drop_last=True) for seed in (0, 0, 1))
    assert np.array_equal(a.samples(3), b.samples(3)) and not np.array_equal(a.samples(3), a.samples(4))
    assert not np.array_equal(a.samples(0), c.samples(0))


def test_too_few_videos_are_refused():
    with pytest.raises(Refusal, match="at least one batch of 40"):
        Order(Numbers(22), Index(()), 0, 40, drop_last=True)


def rate(recipe, step, steps_per_epoch):
    total = total_steps(recipe.epochs, steps_per_epoch, recipe.steps)
    return recipe.optimizer["lr"] * factor(
        recipe.schedule, step, total=total, steps_per_epoch=steps_per_epoch, batch=recipe.batch
    )


def test_learning_rates_as_published():
    crw = Recipe.from_row(RECIPES.get("crw", "test"), "paper")
    assert [rate(crw, s, 60000) for s in (0, 60000 * 20 - 1, 60000 * 20)] == pytest.approx([1e-4, 1e-4, 3e-5])
    vfs = Recipe.from_row(RECIPES.get("vfs-r18", "test"), "paper")
    assert [rate(vfs, s, 7500) for s in (0, 375000, 749999)] == pytest.approx([0.05, 0.025, 0], abs=1e-6)
    liir = Recipe.from_row(RECIPES.get("liir-a", "test"), "paper")
    at = [400000 / 12, 400000 / 12 + 1, 600000 / 12 + 1, 1000000 / 12 + 1]
    assert [rate(liir, int(s), 5800) for s in at] == pytest.approx([1e-3, 5e-4, 2.5e-4, 6.25e-5])
    stage_e = Recipe.from_row(RECIPES.get("liir-e", "test"), "paper")
    assert [rate(stage_e, s, 5800) for s in (0, 5000, 28000)] == pytest.approx([1e-4, 9e-5, 6.25e-6])
    fc = Recipe.from_row(RECIPES.get("fc", "test"), "paper")
    assert total_steps(fc.epochs, 2856, None) == 57120, "20 epochs of 2856 steps"


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize("tier", TIERS)
def test_every_recipe_is_complete(name, tier):
    recipe = Recipe.from_row(RECIPES.get(name, "test"), tier)
    options_of(recipe.module.Options, recipe.options, name)
    assert Recipe.from_settings(recipe.settings()).hash == recipe.hash
    if recipe.init:
        assert recipe.init in list(RECIPES)


def test_stages_of_liir():
    get = lambda name: Recipe.from_row(RECIPES.get(name, "test"), "paper")  # noqa: E731
    assert [get(n).init for n in ("liir-a", "liir-c", "liir-c-decoupled", "liir-d", "liir-e")] == [
        None,
        None,
        "liir-a",
        "liir-b",
        "liir-c-decoupled",
    ]
    e = get("liir-e").options
    assert e["semantic"] and e["compact"] and e["momentum"] and get("liir-e").epochs == 5


def test_batch_norm_groups_of_crw_must_divide_the_share_of_a_process():
    options = options_of(Options, {"bn_clips": 10}, "test")
    options.check_share(20), options.check_share(10)
    with pytest.raises(Refusal, match="5 clips per process, 10 per batch-norm batch"):
        options.check_share(5)


def test_unknown_options_are_refused_with_the_nearest():
    with pytest.raises(Refusal, match="temprature.*\n.*temperature"):
        options_of(Options, {"temprature": 0.1}, "recipe crw: options")


def test_a_misspelt_tier_key_is_refused():
    row = {**RECIPES.get("crw", "test"), "tiers": {"smoke": {"batchh": 2}}}
    with pytest.raises(Refusal, match="unknown key 'batchh'"):
        Recipe.from_row(row, "smoke")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.1}, "unknown key 'lr'\n.*did you mean optimizer.lr"),
        ({"init": "liir-a", "start": "imagenet-r50"}, "init: liir-a and start: imagenet-r50\n.*one start"),
    ],
)
def test_what_a_recipe_cannot_mean(change, message):
    with pytest.raises(Refusal, match=message):
        Recipe.from_row({**RECIPES.get("crw", "test"), **change}, "paper")


class Damaged:
    """Samples of which every `rate`-th cannot be read; 1: none can."""

    def __init__(self, count, rate):
        self.count, self.rate = count, rate

    def epoch(self, index, rng):
        return np.arange(self.count)[:, None]

    def load(self, reader, sample, rng):
        if int(sample[0]) % self.rate == 0:
            raise Refusal(f"video/{int(sample[0]):05d}.jpg: cut", expected="a frame", do="extract it again")
        return {"x": torch.tensor([int(sample[0])])}


class NoReader:
    index = Index(())


def batches(count, rate, *, steps, workers=0, used=0):
    order = Order(Damaged(count, rate), NoReader.index, 0, 4, drop_last=True)
    order.epochs = 100
    return loader(StepData(order, NoReader()), Steps(order, 0, steps, 0, 1), workers, pin=False, used=used)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_small_run_stops_at_the_first_sample_that_cannot_be_read(workers):
    with pytest.raises(Refusal) as refusal:
        list(batches(40, 7, steps=10, workers=workers))
    text = str(refusal.value)
    assert "video/00000.jpg: cut" in text and "Traceback" not in text and "at most 0 (0.5%)" in text
    assert explain(refusal.value) is refusal.value


def test_a_long_run_replaces_within_its_budget():
    seen = list(batches(1000, 1000, steps=250))  # one of a thousand; five may be replaced
    assert len(seen) == 250 and sum(int((b["replaced"] > 0).sum()) for b in seen) == 1
    assert all(set(b) == {"x", "replaced"} for b in seen)
    with pytest.raises(Refusal, match=r"6 of the 1000 samples of this run[\s\S]*video/00000.jpg"):
        list(batches(1000, 1000, steps=250, used=5))
    with pytest.raises(Refusal, match=r"6 of the 1000 samples[\s\S]*at most 5"):
        list(batches(1000, 100, steps=250))


def test_a_budget_is_a_share_of_one_process():
    order = Order(Damaged(22, 5), NoReader.index, 0, 4, drop_last=False, world=2)
    assert Steps(order, 0, 9, 1, 2).samples == sum(len(order.positions(s, 1, 2)) for s in range(9))
    budget = Budget(400)
    budget.spend([["a: cut"], []])
    budget.spend([["b: cut"], []])
    with pytest.raises(Refusal, match=r"3 of the 400 samples.*\n    a: cut\n    b: cut\n    c: gone"):
        budget.spend([["c: gone\n  expected: x"]])
    with pytest.raises(Refusal, match="1 of the 100000 samples"):
        Budget(100000).spend([["a: cut"] * TRIES])

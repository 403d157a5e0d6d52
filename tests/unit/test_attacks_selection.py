"""Splits that are not paired: equal numbers of IN and OUT models, and no score that counts tell."""

import dataclasses

import numpy as np
import pytest
from attack_pools import make_pool
from scipy.stats import norm, rankdata

from miagap.attacks import parse, score_targets
from miagap.attacks.problem import Problem, Task
from miagap.attacks.registry import ATTACKS
from miagap.attacks.scoring import calibrated_thresholds, shadow_use
from miagap.attacks.selection import Selection, common_count, last_rank, order
from miagap.errors import InputError


def random_halves(rng, models, samples):
    """Each model trains on a random half of the samples."""
    order = rng.random((models, samples)).argsort(axis=1)
    return order < samples // 2


def balanced(rng, models, samples, share=0.5):
    """Each sample is IN the same number of models (mi_lira_2021 with --num_experiments)."""
    return rng.random((models, samples)).argsort(axis=0) < round(share * models)


def coins(rng, models, samples, share=0.5):
    """Each model takes each sample or not, independently."""
    return rng.random((models, samples)) < share


DESIGNS = {
    "random halves": random_halves,
    "balanced": balanced,
    "coins": coins,
    "balanced at 30%": lambda rng, m, n: balanced(rng, m, n, 0.3),
    "coins at 30%": lambda rng, m, n: coins(rng, m, n, 0.3),
}


def unpaired(rng, design, models=16, samples=4000, effect=0.0, **settings):
    """Return models with the membership of a design; without effect it means nothing."""
    pool, reserve = make_pool(rng, pairs=models // 2, samples=samples, effect=0.0, **settings)
    member = DESIGNS[design](rng, models, samples)
    return dataclasses.replace(
        pool,
        phi=pool.phi + effect * member[:, None, :],
        loss=np.logaddexp(0, -(pool.phi[:, 0] + effect * member)),
        member=member,
        pairs=np.arange(models),
    ), reserve


def auc(scores, member):
    known = ~np.isnan(scores)
    scores, member = scores[known], member[known]
    ranks = rankdata(scores)
    inside = int(member.sum())
    wins = ranks[member].sum() - inside * (inside + 1) / 2
    return wins / (inside * (member.size - inside))


FAST = {"shokri": {"epochs": 3, "records": 400}, "salem_1": {"epochs": 3, "records": 400}}
LOGITS_ONLY = [name for name, attack in ATTACKS.items() if not attack.measured]
NULL = [{"method": method, **FAST.get(method, {})} for method in LOGITS_ONLY] + [
    {"method": "lira", "online": False},
    {"method": "lira", "variance": "fixed"},
    {"method": "lira", "statistic": "median"},
    {"method": "threshold", "scope": "class"},
    {"method": "rmia", "online": False},
    {"method": "sablayrolles", "signal": "phi"},
]


@pytest.mark.parametrize("design", DESIGNS)
def test_no_attack_learns_anything_from_noise(design):
    """AUC of every attack is 0.5, within 4.5 standard errors over all targets.

    The error is that of one target's AUC over the root of their number.
    """
    signals, reserve = unpaired(np.random.default_rng(1), design, queries=1)
    inside = signals.member[0].sum()
    one = np.sqrt((signals.samples + 1) / (12 * inside * (signals.samples - inside)))
    error = one / np.sqrt(signals.models)
    found = {}
    for settings in NULL:
        if settings["method"] in ("shokri", "salem_1", "long") and design != "balanced":
            continue
        scores = score_targets(signals, signals, parse("a", settings), reserve, 0)
        name = "-".join(map(str, settings.values()))
        values = [auc(row, member) for row, member in zip(scores, signals.member, strict=True)]
        found[name] = np.mean(values)
    wrong = {name: value for name, value in found.items() if abs(value - 0.5) > 4.5 * error}
    assert not wrong, (wrong, error)


def test_counts_would_tell_without_the_selection():
    """The same noise with all models of a balanced design: members are told by counts."""
    signals, _ = unpaired(np.random.default_rng(1), "balanced", queries=1)
    values = []
    for t in range(signals.models):
        others = np.arange(signals.models) != t
        phi, member = signals.phi[others, 0], signals.member[others]
        sides = []
        for mask in (~member, member):
            mean = np.where(mask, phi, 0).sum(axis=0) / mask.sum(axis=0)
            spread = np.sqrt(np.where(mask, (phi - mean) ** 2, 0).sum(axis=0) / mask.sum(axis=0))
            sides.append(norm.logpdf(signals.phi[t, 0], mean, spread))
        values.append(auc(sides[1] - sides[0], signals.member[t]))
    assert np.mean(values) < 0.495


@pytest.mark.parametrize("design", DESIGNS)
def test_members_are_found(design):
    signals, reserve = unpaired(np.random.default_rng(2), design, samples=600, effect=2.0)
    scores = score_targets(
        signals, signals, parse("a", {"method": "lira", "variance": "fixed"}), reserve, 0
    )
    values = [auc(row, member) for row, member in zip(scores, signals.member, strict=True)]
    assert np.mean(values) > 0.8


@pytest.mark.parametrize("design", DESIGNS)
def test_equal_numbers_chosen_by_the_others_alone(design):
    signals, reserve = unpaired(np.random.default_rng(3), design, samples=500)
    problem = leave_one_out(signals, reserve)
    turned = signals.member.copy()
    for group in problem.groups():
        outside, inside = problem.sides(group)
        usable = problem.usable(group)
        assert group.each >= 2
        assert (inside.sum(axis=0)[usable] == group.each).all()
        assert (outside.sum(axis=0)[usable] == group.each).all()
        assert usable.mean() > 0.9
        assert group.targets[0] not in group.kept
        assert not (inside & outside).any()
        # The target's own membership, inverted, changes nothing.
        target = int(group.targets[0])
        turned[target] = ~turned[target]
        other = leave_one_out(dataclasses.replace(signals, member=turned), reserve)
        same = next(g for g in other.groups() if g.targets[0] == target)
        assert same.each == group.each
        np.testing.assert_array_equal(other.sides(same), (outside, inside))
        part = np.arange(0, 500, 7)
        np.testing.assert_array_equal(problem.sides(group, part)[1], inside[:, part])
        turned[target] = ~turned[target]


@pytest.mark.parametrize("design", ["random halves", "balanced", "seeds"])
@pytest.mark.parametrize("centre", ["mean", "median"])
@pytest.mark.parametrize("variance", ["per_example", "fixed"])
@pytest.mark.parametrize("online", [True, False])
def test_lira_equals_the_loop_over_chosen_models(online, variance, centre, design, monkeypatch):
    monkeypatch.setattr("miagap.attacks.lira.CHUNK_BYTES", 1)
    rng = np.random.default_rng(4)
    if design == "seeds":  # 24 models, three of each split
        signals, reserve = unpaired(rng, "random halves", models=24, samples=150, queries=1)
        split = np.repeat(np.arange(8), 3)
        signals = dataclasses.replace(signals, member=signals.member[split], pairs=split)
    else:
        signals, reserve = unpaired(rng, design, samples=150, queries=1)
    settings = {"method": "lira", "online": online, "variance": variance, "statistic": centre}
    scores = score_targets(signals, signals, parse("a", settings), reserve, 0)
    problem = leave_one_out(signals, reserve)
    for group in list(problem.groups())[:3]:
        phi, (outside, inside) = signals.phi[group.kept, 0], problem.sides(group)
        usable, x = problem.usable(group), signals.phi[group.targets[0], 0]
        logs = []
        for mask in (outside, inside):
            columns = [phi[mask[:, i], i] for i in range(150)]
            mean = np.array([getattr(np, centre)(c) if c.size else 0 for c in columns])
            if variance == "fixed":
                centred = [column - column.mean() for column in columns if column.size]
                std = np.concatenate(centred).std()
            else:
                std = np.array([c.std() if c.size > 1 else 1 for c in columns])
            logs.append((norm.logpdf(x, mean, std), norm.logsf(x, mean, std)))
        expected = logs[1][0] - logs[0][0] if online else -logs[0][1]
        np.testing.assert_allclose(scores[group.targets[0], usable], expected[usable], rtol=1e-7)
        assert np.isnan(scores[group.targets[0], ~usable]).all()


def test_pairs_use_all_models():
    signals, reserve = make_pool(np.random.default_rng(5), samples=60)
    assert all(group.each is None for group in leave_one_out(signals, reserve).groups())
    use = shadow_use(signals, signals, reserve, 0)
    assert {(one.models, one.each) for one in use} == {(10, None)}
    assert all(one.scored.all() for one in use)


def test_named_target_uses_all_others():
    signals, reserve = unpaired(np.random.default_rng(6), "balanced", samples=100)
    (use,) = shadow_use(signals.take([5]), signals, reserve, 0)
    assert (use.models, use.each) == (15, 7) and use.scored.all()
    spec = parse("a", {"method": "lira"})
    alone = score_targets(signals.take([5]), signals, spec, reserve, 0)
    np.testing.assert_array_equal(alone[0], score_targets(signals, signals, spec, reserve, 0)[5])


def test_thresholds_exist_for_every_target():
    signals, reserve = unpaired(np.random.default_rng(7), "coins", samples=300)
    limits = calibrated_thresholds(signals, signals, parse("a", {"method": "lira"}), reserve, 0)
    assert np.isfinite(limits).all() and limits.shape == (16,)


def test_too_few_models_are_named():
    signals, reserve = unpaired(np.random.default_rng(8), "coins", models=4, samples=100)
    with pytest.raises(InputError, match=r"attacks\.a: variance: per_example needs at least 2"):
        score_targets(signals, signals, parse("a", {"method": "lira"}), reserve, 0)


@pytest.mark.parametrize(
    ("inside", "outside", "count"),
    [
        ([5, 5, 5], [4, 4, 4], None),
        ([7, 8, 7], [8, 7, 8], 7),
        ([5] * 999 + [9], [10] * 999 + [6], 5),
        ([8] * 999 + [1], [7] * 999 + [14], 4),
        ([1] * 500 + [3] * 500, [6] * 500 + [4] * 500, 2),
        ([1, 2], [2, 1], 1),
        ([0, 1], [1, 0], 0),
    ],
)
def test_common_count(inside, outside, count):
    assert common_count(np.array(inside), np.array(outside)) == count


def test_first_rows_cyclically():
    mask = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=bool)
    chosen = order(mask, np.array([2, 1, 3])) <= 2
    np.testing.assert_array_equal(
        chosen, np.array([[0, 0, 0], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=bool)
    )
    np.testing.assert_array_equal(order(mask, np.zeros(3, dtype=int)) <= 9, mask)


def test_selection_counts_the_first_of_those_that_may_be_used():
    """Base less removed is what a plain walk along each sample's order finds."""
    rng = np.random.default_rng(9)
    mask, start = rng.random((12, 300)) < 0.4, rng.integers(0, 12, 300)
    rank = order(mask, start)
    chosen = Selection(rank, 3, 2)
    for excluded in ([], [4], [0, 11], [5, 6]):
        models, out = chosen.removed(np.array(excluded, dtype=np.int64))
        last = last_rank(rank[excluded], 3)
        for i in range(300):
            walk = [(int(start[i]) + step) % 12 for step in range(12)]
            expected = [m for m in walk if mask[m, i] and m not in excluded][:3]
            left = set(np.flatnonzero(chosen.base[:, i])) - set(models[out[:, i], i])
            assert left == set(expected)
            assert len(left) == chosen.base[:, i].sum() - out[:, i].sum()
            assert {m for m in walk if rank[m, i] <= last[i]} - set(excluded) == set(expected)


def leave_one_out(signals, reserve):
    tasks = tuple(Task(t, (int(pair),)) for t, pair in enumerate(signals.pair))
    return Problem("a", signals, signals, tasks, reserve, 0)

"""What the config may say of attacks, the documentation, and what holds for every attack."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from attack_pools import make_pool, without_membership

from miagap.attacks import (
    Signals,
    calibrated_thresholds,
    calibration_scores,
    parse,
    score_targets,
    threshold_from_calibration,
)
from miagap.attacks.registry import ATTACKS, describe, markdown, needs
from miagap.errors import InputError

DOCS = Path(__file__).parents[2] / "docs" / "attacks.md"
FAST = {
    "shokri": {"records": 60, "epochs": 2},
    "salem_1": {"records": 200, "epochs": 2},
    "nasr": {"records": 200, "epochs": 2},
    "label_only_augment": {"records": 200, "epochs": 2},
}
RANKED_WITH_TIES = {"long", "merlin", "morgan", "label_only_augment", "label_only_distance"}


def spec_of(method, **parameters):
    return parse(method, {"method": method, **FAST.get(method, {}), **parameters})


def answers(signals):
    """Return all arrays of what models say of samples."""
    return [signals.phi, signals.loss, signals.logits, *signals.extra.values()]


def test_page_is_current():
    assert DOCS.read_text(encoding="utf-8") == markdown(), "run: make docs"


def test_defaults_are_filled_in():
    spec = parse("mine", {"method": "lira", "online": False})
    assert spec.parameters == {
        "online": False,
        "variance": "per_example",
        "statistic": "mean",
        "queries": "spherical",
        "compat": "none",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "liro"}, r"attacks\.x\.method: 'liro' is no attack; did you mean lira\?"),
        ({}, r"attacks\.x\.method: None"),
        ({"method": "lira", "onlin": True}, r"attacks\.x\.onlin: .*did you mean online\?"),
        ({"method": "lira", "variance": "fix"}, r"attacks\.x\.variance: .*per_example or fixed"),
        ({"method": "lira", "online": "yes"}, r"attacks\.x\.online: .*true or false"),
        ({"method": "rmia", "a": 1.5}, r"attacks\.x\.a: .*>= 0 and <= 1"),
        ({"method": "rmia", "gamma": True}, r"attacks\.x\.gamma: .*a number"),
        ({"method": "rmia", "population": 2.5}, r"attacks\.x\.population: .*an integer"),
        ({"method": "rmia", "gamma": float("nan")}, r"attacks\.x\.gamma"),
    ],
)
def test_wrong_settings_name_their_key(settings, message):
    with pytest.raises(InputError, match=message):
        parse("x", settings)


def test_all_faults_of_an_entry_are_told_at_once():
    with pytest.raises(InputError) as caught:
        parse("x", {"method": "lira", "online": 1, "variance": 2})
    assert "x.online" in str(caught.value)
    assert "x.variance" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_needs_follow_parameters():
    assert needs([spec_of("lira")]) == {"phi"}
    assert needs([spec_of("threshold")]) == {"loss"}
    assert needs([spec_of("threshold", statistic="entropy")]) == {"loss", "logits"}
    assert needs([spec_of("rmia"), spec_of("shokri")]) == {"phi", "reserve", "logits"}


def test_every_attack_is_described():
    for entry in describe():
        assert entry["source"] and entry["family"] and entry["cost"] and entry["text"]


def test_signals_check_shapes_and_values():
    signals, _ = make_pool(np.random.default_rng(0), samples=10)
    with pytest.raises(InputError, match=r"loss must be float64 \(12, 10\)"):
        dataclasses.replace(signals, loss=signals.loss[:, :9])
    with pytest.raises(InputError, match="member must be bool"):
        dataclasses.replace(signals, member=signals.member.astype(np.int8))
    broken = signals.phi.copy()
    broken[3, 0, 4] = np.nan
    with pytest.raises(InputError, match="split 3, seed 0 is not finite"):
        dataclasses.replace(signals, phi=broken)
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.4"):
        dataclasses.replace(signals, labels=signals.labels + 1)


def test_pools_of_different_size_are_refused():
    small, _ = make_pool(np.random.default_rng(0), samples=10)
    large, reserve = make_pool(np.random.default_rng(0), samples=12)
    with pytest.raises(InputError, match="same pool"):
        score_targets(small, large, spec_of("lira"), reserve, 0)


@pytest.mark.parametrize("reserve_share", [0.0, 0.3])
@pytest.mark.parametrize("method", ATTACKS)
class TestEveryAttack:
    def test_scores(self, method, reserve_share):
        signals, reserve = make_pool(
            np.random.default_rng(1), samples=150, reserve_share=reserve_share
        )
        scores = score_targets(signals, signals, spec_of(method), reserve, 0)
        assert scores.shape == signals.member.shape
        assert scores.dtype == np.float64
        assert np.isfinite(scores[:, ~reserve]).all()
        again = score_targets(without_membership(signals), signals, spec_of(method), reserve, 0)
        np.testing.assert_array_equal(scores, again)

    def test_one_target_alone_scores_the_same(self, method, reserve_share):
        signals, reserve = make_pool(
            np.random.default_rng(2), samples=150, reserve_share=reserve_share
        )
        scores = score_targets(signals, signals, spec_of(method), reserve, 0)
        alone = score_targets(signals.take([5]), signals, spec_of(method), reserve, 0)
        np.testing.assert_allclose(alone[0], scores[5], rtol=1e-9)

    def test_own_pair_is_not_used(self, method, reserve_share):
        """Nonsense in the target's pair among the shadow models changes nothing."""
        signals, reserve = make_pool(
            np.random.default_rng(3), samples=150, reserve_share=reserve_share
        )
        target = signals.take([5])
        without = signals.take([m for m in range(signals.models) if m not in (4, 5)])
        noise = np.random.default_rng(4)
        for array in answers(signals):
            array[4:6] = np.abs(noise.normal(size=array[4:6].shape))
        full = score_targets(target, signals, spec_of(method), reserve, 0)
        expected = score_targets(target, without, spec_of(method), reserve, 0)
        if method in ("rmia", "ye_population", "bertran", "shokri", "salem_1", "long"):
            # Model numbers differ, so draws do: only chance may tell the two apart.
            assert np.corrcoef(full[0, ~reserve], expected[0, ~reserve])[0, 1] > 0.8
        else:
            np.testing.assert_allclose(full, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ATTACKS)
def test_calibration_knows_nothing_of_the_target(method):
    signals, reserve = make_pool(np.random.default_rng(5), samples=150)
    changed = signals.take(range(signals.models))
    noise = np.random.default_rng(6)
    for array in answers(changed):
        array[4:6] = np.abs(noise.normal(size=array[4:6].shape))
    changed.member[4:6] = changed.member[[5, 4]]
    spec = spec_of(method)
    first = calibration_scores(signals.take([5]), signals, spec, reserve, 0)[0]
    second = calibration_scores(signals.take([5]), changed, spec, reserve, 0)[0]
    np.testing.assert_array_equal(first.models, second.models)
    np.testing.assert_allclose(first.scores, second.scores, rtol=1e-9, atol=1e-9)


def test_calibration_equals_an_attack_on_the_shadow_model():
    signals, reserve = make_pool(np.random.default_rng(7), samples=80)
    spec = spec_of("lira")
    calibrations = calibration_scores(signals, signals, spec, reserve, 0, count=2)
    assert [c.pair for c in calibrations] == list(range(6))
    for c in calibrations:
        assert c.models.tolist() == [(2 * c.pair + 2) % 12, (2 * c.pair + 3) % 12]
        others = signals.take(np.flatnonzero(signals.pair != c.pair))
        expected = score_targets(signals.take(c.models), others, spec, reserve, 0)
        np.testing.assert_allclose(c.scores, expected, rtol=1e-9)
        np.testing.assert_array_equal(c.member, signals.member[c.models])
    thresholds = calibrated_thresholds(signals, signals, spec, reserve, 0)
    assert thresholds.shape == (12,)
    assert thresholds[4] == threshold_from_calibration(
        calibrations[2].scores, calibrations[2].member
    )


def test_calibration_with_targets_outside_the_pool_and_several_seeds():
    shadows, reserve = make_pool(np.random.default_rng(8), pairs=5, seeds=2, samples=40)
    target = shadows.take([0])
    target = Signals(
        target.phi,
        target.loss,
        target.member,
        np.array([90]),
        target.seed,
        target.labels,
        target.logits,
    )
    found = calibration_scores(target, shadows, spec_of("lira"), reserve, 0, count=3)[0]
    # Pair 45 comes after all others: cyclically pair 0 is next, its first seed's models first.
    assert shadows.split[found.models].tolist() == [0, 1, 0]
    assert shadows.seed[found.models].tolist() == [0, 0, 1]


def test_too_few_calibration_models():
    signals, reserve = make_pool(np.random.default_rng(9), pairs=2, samples=30)
    with pytest.raises(InputError, match="calibration_models: 3 shadow models are wanted"):
        calibration_scores(signals, signals, spec_of("threshold"), reserve, 0, count=3)


NULL_VARIANTS = [{"method": method, **FAST.get(method, {})} for method in ATTACKS] + [
    {"method": "lira", "online": False},
    {"method": "lira", "variance": "fixed"},
    {"method": "lira", "compat": "mi_lira_2021"},
    {"method": "threshold", "statistic": "modified_entropy", "scope": "class"},
    {"method": "rmia", "online": False, "signal": "sm_taylor"},
    {"method": "rmia", "queries": "majority", "population": 500},
    {"method": "bertran", "signal": "phi"},
    {"method": "ye_reference", "smoothing": "linear"},
    {"method": "ye_reference", "smoothing": "mean"},
    {"method": "ye_distillation", "smoothing": "linear"},
    {"method": "label_only_augment", "model": "count"},
    {"method": "label_only_distance", "estimate": "search"},
    {"method": "long", "features": "penultimate"},
]


@pytest.mark.parametrize("reserve_share", [0.0, 0.2])
@pytest.mark.parametrize("settings", NULL_VARIANTS, ids=lambda s: "-".join(map(str, s.values())))
def test_null_calibration(settings, reserve_share):
    """Members and non-members alike: TPR at FPR a is a, within 4.5 standard errors.

    With ties (shares and counts; the long attack guesses about few samples) TPR may only be
    lower.
    """
    rng = np.random.default_rng(10)
    signals, reserve = make_pool(rng, samples=1500, effect=0.0, reserve_share=reserve_share)
    scores = score_targets(signals, signals, parse("a", settings), reserve, 0)
    for fpr in (0.2, 0.05, 0.01):
        found = []
        for model in range(signals.models):
            inside = scores[model, signals.member[model]]
            outside = np.sort(scores[model, ~signals.member[model] & ~reserve])[::-1]
            threshold = outside[int(fpr * outside.size)]
            found.append((inside > threshold).mean())
        # Of one target: members' counts and the threshold's own place, both binomial. Twins are
        # mirror images of each other, so that half of the targets are independent.
        error = np.sqrt(2 * fpr * (1 - fpr) / inside.size / (signals.models / 2))
        assert np.mean(found) < fpr + 4.5 * error
        if settings["method"] not in RANKED_WITH_TIES:
            assert np.mean(found) > fpr - 4.5 * error - 1.0 / inside.size


@pytest.mark.parametrize("method", ATTACKS)
def test_an_attack_runs_with_the_models_that_it_says_it_needs(method):
    """As few splits as the config allows are enough, thresholds included, and one pair is not."""
    attack = ATTACKS[method]
    least = max(attack.least_pairs, attack.least_models)
    signals, reserve = make_pool(np.random.default_rng(11), pairs=least + 2, samples=120)
    assert np.isfinite(score_targets(signals, signals, spec_of(method), reserve, 0)).all()
    limits = calibrated_thresholds(signals, signals, spec_of(method), reserve, 0)
    assert np.isfinite(limits).all()
    fewer, reserve = make_pool(np.random.default_rng(11), pairs=least + 1, samples=120)
    with pytest.raises(InputError, match=r"splits\.count"):
        calibrated_thresholds(fewer, fewer, spec_of(method), reserve, 0)

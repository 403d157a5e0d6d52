"""Claims: effects that are known, verdicts that follow from the interval."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import synthetic_study
from miagap import claims


@pytest.fixture(scope="module")
def study():
    return synthetic_study.study(replicates=400)


@pytest.fixture(scope="module")
def found(study):
    return claims.evaluate(study)


def _of(found, key, subject):
    return next(c for c in found if c.key == key and c.subject == subject)


def test_the_papers_numbers_agree_with_its_first_claims(found):
    largest = next(c for c in found if c.subject == "largest: all")
    assert largest.verdict == claims.AGREES
    assert largest.lo < 100 < largest.hi
    crop = _of(found, "a", "crop")
    assert crop.lo < 19.56 / 0.73 < crop.hi


def test_the_largest_cut_pays_for_being_chosen(found):
    chosen, alone = next(c for c in found if c.subject == "largest: all"), _of(found, "a", "all")
    assert chosen.estimate == alone.estimate
    assert chosen.lo < alone.lo < alone.hi < chosen.hi


def test_combination_is_compared_with_its_best_part(study, found):
    pair = _of(found, "b", "cutout+mirror")
    rows = study.headline[study.headline["checkpoint"] == "60"]
    mean = rows.groupby("technique")[study.tpr].mean()
    expected = min(mean["cutout"], mean["mirror"]) / mean["cutout+mirror"]
    assert pair.estimate == pytest.approx(expected, rel=1e-3)
    assert _of(found, "b", "crop+mirror").verdict == claims.AGREES


def test_config_says_what_a_technique_is_made_of(study):
    named = dataclasses.replace(study, augmentations={"all": ["crop", "mirror"], "crop": ["crop"]})
    combined = claims._combinations(named)
    assert combined["all"] == ["crop", "mirror"]


def test_knowing_helps_or_hurts_as_made(found):
    one, many = _of(found, "e", "cifar_policy"), _of(found, "e", "all")
    assert one.verdict == claims.AGREES  # the attacker who does not know keeps 35% of the rate
    assert one.lo < 1 / 0.35 < one.hi
    assert many.verdict == claims.DISAGREES
    assert "Knowing helps against all" in many.text


def test_better_predictor_is_found(study):
    metrics = study.metrics.copy()
    metrics["accuracy_gap"] = np.log(metrics.groupby(["technique", "checkpoint"])[study.tpr]
                                     .transform("mean") + 1e-4)  # fmt: skip
    rng = np.random.default_rng(0)
    metrics["test_accuracy"] = rng.random(len(metrics))
    result = claims.evaluate(dataclasses.replace(study, metrics=metrics))
    assert {c.verdict for c in result if c.key == "c"} == {claims.AGREES}
    metrics = metrics.rename(
        columns={"accuracy_gap": "test_accuracy", "test_accuracy": "accuracy_gap"}
    )
    result = claims.evaluate(dataclasses.replace(study, metrics=metrics))
    assert {c.verdict for c in result if c.key == "c"} == {claims.DISAGREES}


@pytest.mark.parametrize(
    ("lo", "hi", "claimed", "verdict"),
    [
        (1.1, 2.0, 1, claims.AGREES),
        (1.1, 2.0, -1, claims.DISAGREES),
        (0.2, 0.9, 1, claims.DISAGREES),
        (0.2, 0.9, -1, claims.AGREES),
        (0.9, 1.1, 1, claims.UNDECIDED),
        (np.nan, np.nan, 1, claims.NOT_TESTED),
    ],
)
def test_verdict(lo, hi, claimed, verdict):
    assert claims._verdict(lo, hi, 1.0, claimed) == verdict


def test_equal_techniques_are_mostly_undecided():
    rng = np.random.default_rng(1)
    study = synthetic_study.study(("none", "crop"), replicates=2000, splits=8, epochs=(60,))
    names = (claims.AGREES, claims.DISAGREES, claims.UNDECIDED)
    counts = dict.fromkeys(names, 0)
    for _ in range(150):
        metrics = study.metrics.copy()
        metrics[study.tpr] = rng.binomial(30000, 0.01, len(metrics)) / 30000
        cuts = claims._techniques_cut(dataclasses.replace(study, metrics=metrics))
        counts[_of(cuts, "a", "crop").verdict] += 1
    assert counts[claims.UNDECIDED] >= 134  # 95% of 150 less three standard deviations


def test_rates_of_zero_stay_finite():
    study = synthetic_study.study(("none", "crop"), splits=6)
    metrics = study.metrics.copy()
    metrics.loc[metrics["technique"] == "crop", study.tpr] = 0.0
    cut = _of(claims.evaluate(dataclasses.replace(study, metrics=metrics)), "a", "crop")
    assert np.isfinite([cut.estimate, cut.lo, cut.hi]).all()
    assert cut.verdict == claims.AGREES


def test_studies_without_the_models_are_not_tested():
    study = synthetic_study.study(("crop", "mirror"), attackers={}, splits=4)
    verdicts = {c.key: c.verdict for c in claims.evaluate(study)}
    assert verdicts["a"] == verdicts["b"] == verdicts["e"] == claims.NOT_TESTED
    single = synthetic_study.study(("none", "crop"), splits=2)
    assert {c.verdict for c in claims.evaluate(single)} == {claims.NOT_TESTED}


def test_rank_correlation_equals_scipys():
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 5, (4, 30)), rng.normal(size=(4, 30))
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert np.allclose(claims.spearman(x, y), expected)


def test_interval_of_a_correlation_holds_that_of_the_true_means():
    # Noise in the means weakens the correlation: percentiles alone hold the truth in 33 of 40.
    rng = np.random.default_rng(5)
    base = synthetic_study.study(("none",), splits=8, replicates=200)
    rows = pd.DataFrame({"cell": np.repeat(np.arange(30), 8), "split": np.tile(np.arange(8), 30)})
    rows["technique"] = rows["attacker_technique"] = rows["cell"].map("t{}".format)
    rows = rows.assign(checkpoint="9", epoch=9, seed=0, protocol="leave-one-out")
    rows = rows.assign(attack=base.headline_attack, n_members=1000, n_nonmembers=1000)
    rate = np.linspace(0.01, 0.2, 30)
    gap = rate + rng.normal(0, 0.03, 30)
    truth = stats.spearmanr(gap, rate).statistic
    covered = 0
    for _ in range(40):
        rows[base.tpr] = rng.binomial(1000, rate[rows["cell"]]) / 1000
        rows["accuracy_gap"] = gap[rows["cell"]] + rng.normal(0, 0.02, len(rows))
        rows["test_accuracy"] = rows["loss_gap"] = rows["accuracy_gap"]
        study = dataclasses.replace(base, metrics=rows.copy())
        value, lo, hi, cells = claims.correlation(study, "accuracy_gap")
        assert cells == 30 and lo <= value <= hi
        covered += lo <= truth <= hi
    assert covered >= 36


def test_monotone_fit_explains_a_monotone_curve_and_nothing_of_a_falling_one():
    x = np.linspace(0, 1, 20)[None]
    assert claims._monotone_fit(x, np.exp(5 * x))[0] == pytest.approx(1.0)
    assert claims._monotone_fit(x, -x)[0] == pytest.approx(0.0)

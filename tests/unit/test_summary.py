import numpy as np
import pandas as pd
import pytest

from miagap import intervals, metrics, summary
from miagap.errors import InputError

T, N = 8, 1200


@pytest.fixture(scope="module")
def group():
    """Scores of 8 targets on 4 pairs of splits; some reserve; members one unit higher."""
    rng = np.random.default_rng(11)
    member = np.empty((T, N), bool)
    for pair in range(0, T, 2):
        member[pair] = rng.random(N) < 0.5
        member[pair + 1] = ~member[pair]
    scores = rng.normal(size=(T, N)) + member
    valid = rng.random(N) < 0.9
    return scores, member, valid


@pytest.fixture(scope="module")
def pool(group):
    return summary.pool_group(summary.rank_targets(*group), np.arange(T), replicates=500)


def test_pooled_rate_is_that_of_the_concatenated_scores(group, pool):
    scores, member, valid = group
    inside, outside = scores[member & valid], scores[~member & valid]
    assert pool.row["pooled_n_members"] == len(inside)
    assert pool.row["pooled_n_nonmembers"] == len(outside)
    for fpr in metrics.FPRS:
        expected = metrics.tpr_at_fpr(inside, outside, fpr)
        name = f"pooled_tpr_at_fpr_{fpr:g}"
        assert pool.row[name] == pytest.approx(expected.tpr)
        assert pool.row[f"{name}_threshold"] == expected.threshold
        assert pool.row[f"{name}_resolved"] == expected.resolved
        assert pool.row[f"{name}_lo"] <= expected.tpr <= pool.row[f"{name}_hi"]
    assert pool.row["pooled_tpr_at_fpr_0.001_resolved"]
    assert not pool.row["pooled_tpr_at_fpr_0.0001_resolved"]


def test_mean_curve_is_the_mean_and_stops_at_its_resolution(group, pool):
    scores, member, valid = group
    for fpr, tpr in zip(pool.curve["fpr"], pool.curve["mean_tpr"], strict=True):
        each = [
            metrics.tpr_at_fpr(row[inside & valid], row[~inside & valid], fpr)
            for row, inside in zip(scores, member, strict=True)
        ]
        if all(found.resolved for found in each):
            assert tpr == pytest.approx(np.mean([found.tpr for found in each]))
        else:
            assert np.isnan(tpr)
    assert np.isnan(pool.curve["mean_tpr"][0]) and pool.curve["mean_tpr"][-1] == 1.0


def test_curves_rise_and_hold_the_rates_of_the_row(pool):
    curve = pool.curve
    assert {len(column) for column in curve.values()} == {len(curve["fpr"])}
    assert (np.diff(curve["fpr"]) > 0).all() and curve["fpr"][-1] == 1.0
    for kind in ("mean", "pooled"):
        known = ~np.isnan(curve[f"{kind}_tpr"])
        assert (np.diff(curve[f"{kind}_tpr"][known]) >= 0).all()
        assert (curve[f"{kind}_tpr_lo"][known] <= curve[f"{kind}_tpr_hi"][known]).all()
    for fpr in (0.1, 0.01, 0.001):
        place = np.flatnonzero(curve["fpr"] == fpr)
        assert curve["pooled_tpr"][place] == pool.row[f"pooled_tpr_at_fpr_{fpr:g}"]


def test_pooled_interval_equals_resampling_the_scores(group):
    """The counts on a grid against a bootstrap that really concatenates the scores."""
    ranked = summary.rank_targets(*group)
    weights = intervals.resample_clusters(T, 200, 3)
    for fpr in (0.1, 0.003):
        expected = []
        for row in weights.astype(int):
            drawn = [ranked[at] for at in np.repeat(np.arange(T), row)]
            members = np.concatenate([target.members for target in drawn])
            nonmembers = np.concatenate([target.nonmembers for target in drawn])
            expected.append(metrics.tpr_at_fpr(members, nonmembers, fpr).tpr)
        found = summary.pooled_tpr(ranked, np.arange(T), fpr, replicates=200, seed=3)
        lo, hi = intervals.interval_of(np.array(expected), found.value, T)
        assert (found.lo, found.hi) == pytest.approx((float(lo), float(hi)), abs=2e-3)


def test_pooled_rates_cover_the_null():
    """Exchangeable scores of 8 small targets: the rate is the FPR, in about 95% of draws."""
    rng = np.random.default_rng(5)
    inside = {0.01: 0, 0.001: 0}
    for _ in range(60):
        ranked = [metrics.rank_groups(rng.normal(size=900), rng.normal(size=900)) for _ in range(8)]
        for fpr in inside:
            found = summary.pooled_tpr(ranked, np.arange(8), fpr, replicates=300)
            inside[fpr] += found.lo <= fpr <= found.hi
    assert min(inside.values()) >= 52


def test_pool_is_repeatable_and_ignores_order_of_targets(group):
    ranked, clusters = summary.rank_targets(*group), np.arange(T)
    first = summary.pool_group(ranked, clusters, replicates=200, seed=1)
    again = summary.pool_group(ranked[::-1], clusters[::-1], replicates=200, seed=1)
    assert first.row == pytest.approx(again.row)


def test_one_target_has_no_interval_and_no_hits_have_a_binomial_one():
    ranked = [metrics.rank_groups(np.arange(50.0), np.arange(50.0) + 100)] * 3
    row = summary.pool_group(ranked, np.arange(3)).row
    assert row["pooled_tpr_at_fpr_0.1"] == row["pooled_tpr_at_fpr_0.1_lo"] == 0.0
    assert row["pooled_tpr_at_fpr_0.1_hi"] == pytest.approx(1 - 0.025 ** (1 / 150))
    row = summary.pool_group(ranked[:1], np.zeros(1)).row
    assert np.isnan(row["pooled_tpr_at_fpr_0.1_hi"])


def test_vulnerability_by_hand():
    #           sample  0    1    2    3    4    5
    scores = np.array([[9.0, 1.0, 2.0, 3.0, 8.0, 0.0], [5.0, 7.0, 4.0, 6.0, 3.0, 1.0]])
    member = np.array([[1, 0, 0, 0, 1, 0], [1, 0, 1, 0, 0, 0]], bool)
    valid = np.array([1, 1, 1, 1, 1, 0], bool)
    found = summary.vulnerability(scores, member, valid, fpr=0.001)
    assert found["n_in"][:5].tolist() == [2, 0, 1, 0, 1]
    # target 0: highest non-member 3; target 1: 7
    assert found["found"][:5].tolist() == [1, 0, 0, 0, 1]
    assert found["found_share"][[0, 2, 4]].tolist() == [0.5, 0.0, 1.0]
    assert found["rank_in"][0] == pytest.approx((3 / 3 + 1 / 3) / 2)
    assert found["score_in"][0] == 7.0 and found["score_out"][1] == 4.0
    assert found["rank_out"][1] == pytest.approx(((0 + 0.5) / 3 + (2 + 0.5) / 3) / 2)
    assert np.isnan(found["found_share"][1]) and np.isnan(found["rank_out"][5])


def test_vulnerability_averages_to_the_rate(group):
    scores, member, valid = group
    ranked = summary.rank_targets(scores, member, valid)
    found = summary.vulnerability(scores, member, valid, ranked, fpr=0.01)
    hits = sum(round(metrics.ranked_tpr_at_fpr(t, 0.01).tpr * len(t.members)) for t in ranked)
    assert found["found"][valid].sum() == hits
    assert np.nanmean(found["rank_out"]) == pytest.approx(0.5, abs=1e-3)
    assert ((found["n_in"] + found["n_out"])[valid] == T).all()
    assert (found["n_in"] + found["n_out"])[~valid].sum() == 0


def test_stability():
    exposed = np.r_[np.arange(100.0), np.nan]
    same = summary.stability(exposed, exposed * 2 + 1, 10)
    assert same["spearman"] == pytest.approx(1.0) and same["jaccard"] == 1.0
    opposite = summary.stability(exposed, -exposed, 10)
    assert opposite["spearman"] == pytest.approx(-1.0) and opposite["jaccard"] == 0.0
    assert same["expected"] == pytest.approx(1 / 19)


def per_target(protocol=summary.LEAVE_ONE_OUT):
    """A metrics table: two checkpoints x two attacks x 8 splits x 2 seeds."""
    rng = np.random.default_rng(2)
    rows = []
    for checkpoint in ("60", "6"):
        for attack in ("lira", "loss"):
            for split in range(8):
                for seed in range(2):
                    scores = rng.normal(size=300) + (np.arange(300) < 150)
                    rows.append(
                        {"study": "s", "dataset": "d", "technique": "none", "seed": seed}
                        | {"attacker_technique": "none", "split": split, "attack": attack}
                        | {"checkpoint": checkpoint, "protocol": protocol}
                        | metrics.evaluate(scores, np.arange(300) < 150, threshold=None)
                        | {"loss_gap": 2.0 + split, "train_accuracy": 1.0}
                    )
    return pd.DataFrame(rows)


def test_over_targets_averages_each_group():
    table = per_target()
    found = summary.over_targets(table, replicates=300, seed=4)
    assert found[["checkpoint", "attack"]].to_numpy().tolist() == [
        ["6", "lira"],
        ["6", "loss"],
        ["60", "lira"],
        ["60", "loss"],
    ]
    assert (found["n_targets"] == 16).all() and (found["n_clusters"] == 8).all()
    part = table[(table["checkpoint"] == "60") & (table["attack"] == "loss")]
    row = found.iloc[3]
    expected = intervals.bootstrap_mean(
        part["auc"], part["split"], replicates=300, seed=4, bounds=(0, 1)
    )
    assert (row["auc"], row["auc_lo"], row["auc_hi"]) == pytest.approx(tuple(expected))
    assert row["loss_gap"] == 5.5 and row["loss_gap_lo"] < 5.5 < row["loss_gap_hi"]
    assert row["tpr_at_fpr_0.1_resolved"] and not row["tpr_at_fpr_0.001_resolved"]
    assert np.isnan(row["recall"]) and np.isnan(row["recall_lo"])
    assert "tpr_at_fpr_0.1_threshold" not in found


def test_over_targets_does_not_depend_on_the_order_of_rows():
    table = per_target()
    shuffled = table.sample(frac=1, random_state=0)
    first = summary.over_targets(table, replicates=200)
    again = summary.over_targets(shuffled, replicates=200)
    pd.testing.assert_frame_equal(first, again)


def test_gaps_may_be_negative_and_shares_may_not():
    table = per_target().query("attack == 'lira' and checkpoint == '6'")
    low = np.linspace(-0.3, 0.1, len(table))
    table = table.assign(accuracy_gap=low, recall=0.0, test_accuracy=np.abs(low))
    row = summary.over_targets(table).iloc[0]
    assert row["accuracy_gap_lo"] < -0.1 and row["test_accuracy_lo"] >= 0.0
    assert row["recall_lo"] == 0.0 < row["recall_hi"] < 0.01
    # all members of all targets are trials
    assert row["train_accuracy_lo"] == pytest.approx(0.025 ** (1 / (16 * 150)))


def test_fixed_split_resamples_seeds():
    table = per_target(summary.FIXED_SPLIT)
    table = table[table["split"] == 0]
    assert (summary.over_targets(table)["n_clusters"] == 2).all()
    assert summary.cluster_labels(table).tolist() == table["seed"].tolist()


def test_pooled_columns_are_joined():
    table = per_target()
    keys = table[list(summary.GROUP)].drop_duplicates()
    pooled = keys.assign(**{"pooled_tpr_at_fpr_0.001": np.arange(4.0), "n_targets": 16})
    found = summary.over_targets(table, replicates=50, pooled=pooled)
    assert found["pooled_tpr_at_fpr_0.001"].tolist() == [2.0, 3.0, 0.0, 1.0]


def test_generalization_over_targets():
    rows = [
        {"technique": technique, "checkpoint": "5", "seed": 0, "split": split, "loss_gap": split}
        | {"study": "s", "dataset": "d", "n_members": 10, "n_nonmembers": 10}
        | {"train_accuracy": 0.9, "test_accuracy": 0.5 + split / 100, "accuracy_gap": 0.1}
        for technique in ("none", "crop")
        for split in range(8)
    ]
    found = summary.generalization_over_targets(pd.DataFrame(rows), replicates=100)
    assert found["technique"].tolist() == ["crop", "none"]
    assert found["test_accuracy"].tolist() == pytest.approx([0.535, 0.535])
    # common random numbers: equal data gives equal intervals
    assert found["loss_gap_lo"][0] == found["loss_gap_lo"][1] > 0


def test_group_column_that_is_missing_is_named():
    with pytest.raises(InputError, match="lacks the column colour"):
        summary.over_targets(per_target(), ("technique", "colour"))
    assert summary.over_targets(per_target().iloc[:0]).empty

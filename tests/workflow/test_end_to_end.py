"""What a finished study says, and that it says it truly."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from scipy import stats
from scipy.special import logsumexp
from study_runs import STUDY, Sandbox, leftovers

pytestmark = pytest.mark.xdist_group("finished")

# The columns that other programs may rely on, in order.
COLUMNS = [
    *("study", "dataset", "technique", "attacker_technique", "seed", "split", "checkpoint"),
    *("protocol", "attack", "n_members", "n_nonmembers"),
    *("auc", "balanced_accuracy", "precision", "recall"),
    *("tpr_at_fpr_0.1", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "tpr_at_fpr_0.0001"),
    *("tpr_at_fpr_0.1_lo", "tpr_at_fpr_0.1_hi", "tpr_at_fpr_0.01_lo", "tpr_at_fpr_0.01_hi"),
    *("tpr_at_fpr_0.001_lo", "tpr_at_fpr_0.001_hi"),
    *("tpr_at_fpr_0.0001_lo", "tpr_at_fpr_0.0001_hi"),
    *("train_accuracy", "test_accuracy", "accuracy_gap", "train_loss", "test_loss", "loss_gap"),
]
ATTACKED = "attacks/{0}/attacker-{0}/checkpoint-{1}/leave-one-out/seed0-split{2}.{3}.parquet"


@pytest.fixture(scope="module")
def results(finished: Sandbox) -> Path:
    return finished.results(STUDY)


@pytest.fixture(scope="module")
def metrics(results: Path) -> pd.DataFrame:
    return pq.read_table(results / "tables/metrics.parquet").to_pandas()


def metadata(path: Path) -> dict[str, str]:
    """Return what a Parquet or safetensors file says of itself."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="numpy") as handle:
            return dict(handle.metadata())
    found = pq.read_schema(path).metadata
    prefix = "miagap."
    texts = {key.decode(): value.decode() for key, value in found.items()}
    return {key[len(prefix) :]: text for key, text in texts.items() if key.startswith(prefix)}


# --- files ------------------------------------------------------------------------------


def test_nothing_is_left_over(results: Path) -> None:
    assert leftovers(results) == []


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("dataset/pool.safetensors", {}),
        ("splits/membership.parquet", {}),
        (
            "models/none/seed0-split3/checkpoint-16.safetensors",
            {"technique": "none", "seed": "0", "split": "3", "checkpoint": "16"},
        ),
        (
            "models/crop/seed1-split0/history.parquet",
            {"technique": "crop", "seed": "1", "split": "0"},
        ),
        (
            "logits/crop/checkpoint-0/seed0-split7.parquet",
            {"technique": "crop", "seed": "0", "split": "7", "checkpoint": "0"},
        ),
        ("shadow/none/checkpoint-16.safetensors", {"technique": "none", "checkpoint": "16"}),
        *(
            (
                ATTACKED.format("crop", 16, 5, part),
                {
                    "technique": "crop",
                    "attacker_technique": "crop",
                    "seed": "0",
                    "split": "5",
                    "checkpoint": "16",
                    "protocol": "leave-one-out",
                },
            )
            for part in ("scores", "roc", "metrics")
        ),
        ("tables/metrics.parquet", {}),
        ("tables/generalization.parquet", {}),
    ],
)
def test_files_say_what_they_are(results: Path, name: str, identity: dict[str, str]) -> None:
    said = metadata(results / name)

    assert said["study"] == "small"
    assert {key: said.get(key) for key in identity} == identity
    assert len(said["config_digest"]) == 16
    assert json.loads(said["settings"]) is not None
    for program in ("miagap", "python", "numpy", "torch"):
        assert said[f"version.{program}"][0].isdigit()


def test_every_table_and_figure_is_there(results: Path) -> None:
    names = ["augmentation", "early_stopping", "attack_comparison", "decisions", "claims"]
    for name in names:
        for form in ("csv", "md", "tex", "html"):
            assert (results / f"tables/{name}.{form}").stat().st_size > 0
    figures = {path.stem for path in (results / "figures").glob("*.png")}
    assert {"roc_techniques", "roc_checkpoints", "gap_vs_tpr", "accuracy_vs_tpr"} <= figures
    assert "loss_gap_vs_tpr" in figures


def test_membership_says_what_models_were_trained_on(results: Path) -> None:
    table = pq.read_table(results / "splits/membership.parquet")
    for split in range(8):
        extracted = pq.read_table(results / f"logits/none/checkpoint-0/seed0-split{split}.parquet")
        assert extracted["member"].equals(table[f"split{split}"])
    pairs = [table[f"split{2 * k}"].to_numpy() ^ table[f"split{2 * k + 1}"] for k in range(4)]
    assert np.all(pairs)


def test_metrics_have_the_promised_columns_and_rows(metrics: pd.DataFrame) -> None:
    assert list(metrics.columns[: len(COLUMNS)]) == COLUMNS
    assert not metrics.duplicated(COLUMNS[:9]).any()
    targets = 8 + 2  # leave-one-out; fixed split with two seeds
    assert len(metrics) == len(STUDY["techniques"]) * 2 * targets * len(STUDY["attacks"])
    assert (metrics["n_members"] == 100).all()
    assert (metrics["n_nonmembers"] == 100).all()


# --- meaning ----------------------------------------------------------------------------


def chosen(metrics: pd.DataFrame, technique: str, checkpoint: str, attack: str) -> pd.DataFrame:
    found = metrics[
        (metrics["technique"] == technique)
        & (metrics["checkpoint"] == checkpoint)
        & (metrics["attack"] == attack)
        & (metrics["protocol"] == "leave-one-out")
    ]
    assert len(found) == 8
    return found


def interval_of_mean(values: pd.Series, confidence: float) -> tuple[float, float]:
    """Return Student's interval over targets, those of a pair of splits taken together."""
    pairs = values.to_numpy().reshape(4, 2).mean(axis=1)
    return stats.t.interval(confidence, 3, loc=pairs.mean(), scale=stats.sem(pairs))


def test_models_are_overfitted(metrics: pd.DataFrame) -> None:
    trained = chosen(metrics, "none", "16", "lira_online_fixed")

    assert (trained["train_accuracy"] > 0.99).all()
    assert (trained["accuracy_gap"] > 0.02).all()
    assert (trained["loss_gap"] > 0.1).all()
    gap = trained["train_accuracy"] - trained["test_accuracy"]
    assert np.allclose(trained["accuracy_gap"], gap)
    assert np.allclose(trained["loss_gap"], trained["test_loss"] - trained["train_loss"])


@pytest.mark.parametrize("attack", list(STUDY["attacks"]))
def test_members_of_overfitted_models_score_higher(metrics: pd.DataFrame, attack: str) -> None:
    low, _ = interval_of_mean(chosen(metrics, "none", "16", attack)["auc"], 0.95)

    assert low > 0.5


def test_untrained_models_tell_nothing(metrics: pd.DataFrame) -> None:
    for attack in STUDY["attacks"]:
        untrained = chosen(metrics, "none", "0", attack)
        inside = (untrained["auc_lo"] <= 0.5) & (untrained["auc_hi"] >= 0.5)
        # Each interval misses one time in twenty.
        assert inside.sum() >= 6, attack
        low, high = interval_of_mean(untrained["auc"], 0.99)
        assert low < 0.5 < high, attack


def test_scores_tell_nothing_of_another_random_half(results: Path) -> None:
    """Scores against the members of another pair's split: the attack finds its target's only."""
    aucs = []
    for split in range(8):
        table = pq.read_table(results / ATTACKED.format("none", 16, split, "scores"))
        other = pq.read_table(results / ATTACKED.format("none", 16, (split + 2) % 8, "scores"))
        scores, member = table["lira_online_fixed"].to_numpy(), other["member"].to_numpy()
        aucs.append(stats.mannwhitneyu(scores[member], scores[~member]).statistic / 100**2)
    low, high = interval_of_mean(pd.Series(aucs), 0.99)

    assert low < 0.5 < high


# --- computed again ---------------------------------------------------------------------


def extracted(results: Path, split: int) -> dict[str, np.ndarray]:
    """Return what was extracted of a final model of ``none``, as plain arrays."""
    table = pq.read_table(results / f"logits/none/checkpoint-16/seed0-split{split}.parquet")
    names = ("label", "member", "logits", "phi")
    return {name: np.array(table[name].to_pylist()) for name in names}


def test_logits_are_the_models_answers(results: Path) -> None:
    """phi of query 0 follows from the logits, and accuracy from logits and labels."""
    model = extracted(results, 2)
    z, label = model["logits"].astype(np.float64), model["label"]
    others = np.where(np.eye(10, dtype=bool)[label], -np.inf, z)
    phi = z[np.arange(len(z)), label] - logsumexp(others, axis=1)

    assert np.allclose(model["phi"][:, 0], phi, rtol=1e-9, atol=1e-9)
    history = pq.read_table(results / "models/none/seed0-split2/history.parquet").to_pylist()
    right = z.argmax(axis=1) == label
    assert history[-1]["train_accuracy"] == pytest.approx(right[model["member"]].mean())
    assert history[-1]["test_accuracy"] == pytest.approx(right[~model["member"]].mean())


@pytest.mark.parametrize("attack", ["lira_online", "lira_online_fixed"])
def test_lira_scores_by_the_paper(results: Path, attack: str) -> None:
    """Carlini et al. 2022, algorithm 1, sample by sample, the target's pair of splits left out."""
    target = extracted(results, 3)
    shadows = [extracted(results, split) for split in range(8) if split // 2 != 1]
    phi = np.stack([model["phi"] for model in shadows])
    inside = np.stack([model["member"] for model in shadows])
    n = len(target["label"])
    sides = {}
    for side, mask in (("in", inside), ("out", ~inside)):
        own = [phi[mask[:, i], i] for i in range(n)]
        mean = np.array([values.mean(axis=0) for values in own])
        variance = np.array([((values - values.mean(axis=0)) ** 2).mean() for values in own])
        if attack == "lira_online_fixed":
            every = np.concatenate([own[i] - mean[i] for i in range(n)])
            variance = np.full(n, (every**2).mean())
        sides[side] = stats.norm.logpdf(target["phi"], mean, np.sqrt(variance)[:, None])
    expected = (sides["in"] - sides["out"]).mean(axis=1)

    scores = pq.read_table(results / ATTACKED.format("none", 16, 3, "scores"))
    assert np.allclose(scores[attack].to_numpy(), expected, rtol=1e-5, atol=1e-5)
    assert np.array_equal(scores["member"].to_numpy(), target["member"])


@pytest.mark.parametrize("fpr", [0.1, 0.01])
def test_true_positive_rate_by_counting(results: Path, metrics: pd.DataFrame, fpr: float) -> None:
    table = pq.read_table(results / ATTACKED.format("none", 16, 3, "scores"))
    scores, member = table["lira_online_fixed"].to_numpy(), table["member"].to_numpy()
    threshold = np.sort(scores[~member])[::-1][int(np.floor(fpr * 100 + 1e-9))]
    expected = (scores[member] > threshold).mean()

    row = chosen(metrics, "none", "16", "lira_online_fixed").query("split == 3").iloc[0]
    assert row[f"tpr_at_fpr_{fpr}"] == pytest.approx(expected)
    assert row[f"tpr_at_fpr_{fpr}_lo"] <= expected <= row[f"tpr_at_fpr_{fpr}_hi"]
    ranks = stats.mannwhitneyu(scores[member], scores[~member]).statistic / 100**2
    assert row["auc"] == pytest.approx(ranks, abs=2e-3)


def test_models_of_one_pair_differ(results: Path) -> None:
    first, second = (
        load_file(results / f"models/none/seed0-split{split}/checkpoint-16.safetensors")
        for split in (0, 1)
    )
    assert first.keys() == second.keys()
    assert not all(np.array_equal(first[name], second[name]) for name in first)

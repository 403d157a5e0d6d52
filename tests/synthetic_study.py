"""Tidy tables of a study that was never run, with the paper's CIFAR-10 numbers as truth.

For tests of tables, claims and figures: the relations between techniques are known.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd

from miagap import reference
from miagap.results import CELL, StudyResults

EPOCHS = (0, 10, 30, 60)
FPR_COLUMNS = (0.1, 0.01, 0.001, 0.0001)
ATTACKS = {
    "lira_online": (1.0, "likelihood ratio"),
    "lira_online_fixed": (0.85, "likelihood ratio"),
    "lira_offline": (0.6, "likelihood ratio"),
    "lira_offline_fixed": (0.5, "likelihood ratio"),
    "loss_threshold": (0.02, "threshold"),
}


def curve(tpr: float, fpr: np.ndarray) -> np.ndarray:
    """Return a ROC curve through (0.1%, tpr): a power law that meets (1, 1)."""
    power = np.log(max(tpr, 1e-6)) / np.log(0.001)
    return fpr**power


def _progress(epoch: int, last: int) -> float:
    return (epoch / last) ** 0.7


def _target_rows(
    rng: np.random.Generator, base: dict[str, object], tpr: float, n: int
) -> dict[str, object]:
    """Return the metrics of one attacked model whose expected TPR at 0.1% is ``tpr``."""
    row = dict(base)
    for fpr in FPR_COLUMNS:
        expected = float(curve(tpr, np.array(max(fpr, 1 / n))))
        found = rng.binomial(n, min(1.0, expected)) / n
        half = 1.96 * np.sqrt(found * (1 - found) / n) + 1 / n
        name = f"tpr_at_fpr_{fpr:g}"
        row |= {name: found, f"{name}_lo": max(0.0, found - half), f"{name}_hi": found + half}
    power = np.log(max(tpr, 1e-6)) / np.log(0.001)
    row["auc"] = 1 / (1 + power) + rng.normal(0, 0.002)
    row["balanced_accuracy"] = 0.5 + (row["auc"] - 0.5) * 0.7
    return row


def _generalization(
    rng: np.random.Generator, truth: reference.PaperRow, progress: float
) -> dict[str, float]:
    train = 0.1 + (truth.train_accuracy - 0.1) * progress + rng.normal(0, 0.002)
    test = 0.1 + (truth.test_accuracy - 0.1) * progress**0.6 + rng.normal(0, 0.003)
    train, test = min(train, 1.0), min(test, train)
    train_loss = 2.5 * (1 - train)
    test_loss = train_loss + 4 * (train - test) ** 1.1 * np.exp(rng.normal(0, 0.05))
    return {
        "train_accuracy": train,
        "test_accuracy": test,
        "accuracy_gap": train - test,
        "train_loss": train_loss,
        "test_loss": test_loss,
        "loss_gap": test_loss - train_loss,
    }


class MetricsSettings(TypedDict, total=False):
    """What :func:`metrics_table` may be given beside techniques and attackers."""

    splits: int
    n: int
    dataset: str
    epochs: Sequence[int]
    seed: int


def metrics_table(
    techniques: Sequence[str],
    attackers: Mapping[str, Sequence[str]],
    splits: int = 16,
    n: int = 30000,
    dataset: str = "cifar10",
    epochs: Sequence[int] = EPOCHS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return tables/metrics.parquet of the study."""
    rng = np.random.default_rng(seed)
    rows = []
    for technique in techniques:
        truth = reference.AUGMENTATION[technique]
        for split in range(splits):
            luck = np.exp(rng.normal(0, 0.08))
            for epoch in epochs:
                model = _generalization(rng, truth, _progress(epoch, epochs[-1]))
                others = attackers.get(technique, ()) if epoch == epochs[-1] else ()
                for attacker in (technique, *others):
                    factor = 1.0 if attacker == technique else 0.35
                    for attack, (strength, _) in ATTACKS.items():
                        share = _progress(epoch, epochs[-1]) ** 3
                        leak = truth.tpr * luck * strength * factor
                        tpr = 0.001 + max(0.0, leak - 0.001) * share
                        base = {
                            "study": "synthetic",
                            "dataset": dataset,
                            "technique": technique,
                            "attacker_technique": attacker,
                            "seed": 0,
                            "split": split,
                            "checkpoint": str(epoch),
                            "epoch": epoch,
                            "protocol": "leave-one-out",
                            "attack": attack,
                            "n_members": n,
                            "n_nonmembers": n,
                            **model,
                        }
                        rows.append(_target_rows(rng, base, tpr, n))
    return pd.DataFrame(rows)


def roc_table(metrics: pd.DataFrame, points: int = 80) -> pd.DataFrame:
    """Return ROC curves that pass through the metrics' mean rates, as tables/roc.parquet has."""
    n = int(metrics["n_nonmembers"].min())
    everyone = n * metrics["split"].nunique()
    fpr = np.unique(np.r_[np.geomspace(1 / everyone, 1, points), FPR_COLUMNS])
    frames = []
    for key, group in metrics.groupby(CELL, sort=False):
        rate = curve(float(group["tpr_at_fpr_0.001"].mean()), fpr)
        rate = np.where(rate * everyone < 0.5, 0.0, rate)
        spread = 0.04 * rate + np.sqrt(rate / everyone)
        ends = {"": rate, "_lo": (rate - spread).clip(0), "_hi": (rate + spread).clip(0, 1)}
        columns = {"fpr": fpr}
        for kind, known in (("tpr", fpr >= 1 / n), ("pooled_tpr", fpr > 0)):
            columns |= {f"{kind}{end}": np.where(known, v, np.nan) for end, v in ends.items()}
        frames.append(pd.DataFrame({**dict(zip(CELL, key, strict=True)), **columns}))
    return pd.concat(frames, ignore_index=True)


def pooled_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return rates under one threshold for all targets, as tables/pooled.parquet has."""
    rows = []
    for key, group in metrics.groupby(CELL, sort=False):
        row = dict(zip(CELL, key, strict=True))
        for fpr in FPR_COLUMNS:
            rate, name = float(group[f"tpr_at_fpr_{fpr:g}"].mean()), f"pooled_tpr_at_fpr_{fpr:g}"
            row |= {name: rate, f"{name}_lo": 0.9 * rate, f"{name}_hi": min(1.0, 1.1 * rate)}
        rows.append(row)
    return pd.DataFrame(rows)


def vulnerability_table(techniques: Sequence[str], n: int = 400) -> pd.DataFrame:
    """Return per-sample results, as tables/vulnerability.parquet has: some samples stand out."""
    rng = np.random.default_rng(1)
    common = rng.normal(size=n)
    frames = []
    for technique in techniques:
        rank = (common + rng.normal(size=n)).argsort().argsort() / n
        found = rng.binomial(8, rank**4)
        columns = {"technique": technique, "seed": np.nan, "sample_id": np.arange(n)}
        columns |= {"n_in": 8, "found": found, "found_share": found / 8, "rank_in": rank}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def study(
    techniques: Sequence[str] = tuple(reference.AUGMENTATION),
    attackers: Mapping[str, Sequence[str]] | None = None,
    replicates: int = 300,
    **settings: Unpack[MetricsSettings],
) -> StudyResults:
    """Return a study of the paper's ten techniques with two attackers who do not know."""
    if attackers is None:
        attackers = {name: ["none"] for name in ("cifar_policy", "all") if name in techniques}
    metrics = metrics_table(techniques, attackers, **settings)
    families = {name: family for name, (_, family) in ATTACKS.items()}
    return StudyResults(
        metrics,
        roc_table(metrics),
        tuple(techniques),
        pooled_table(metrics),
        vulnerability_table(techniques),
        families=families,
        replicates=replicates,
    )

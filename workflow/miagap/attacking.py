"""The attack stage: every configured attack on every target of a group, scored and measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from miagap import attacks, metrics, roc, seeds, summary
from miagap.attacks import AttackSpec
from miagap.attacks.scoring import Use
from miagap.metrics import Ranked
from miagap.names import FIXED_SPLIT
from miagap.shadow import Models


@dataclass(frozen=True)
class Attacked:
    """What the attacks of a group give.

    Attributes:
        scores: attack -> float64 (T, n), higher = more likely a member.
        rows: one list of metric rows (one an attack) for each target.
        points: one list of ROC point tables (one an attack) for each target.
        pooled: one row an attack, over all targets.
        curves: one table an attack, the mean and the pooled ROC curve over all targets.
        used: which shadow models each target was attacked with.
    """

    scores: dict[str, np.ndarray]
    rows: list[list[dict[str, Any]]]
    points: list[list[dict[str, Any]]]
    pooled: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    used: list[Use]


def attack_group(
    targets: Models,
    shadows: Models,
    specs: Sequence[AttackSpec],
    settings: Mapping[str, Any],
    protocol: str,
    log: Any,
) -> Attacked:
    """Attack every target with every attack.

    A target's shadows are the models of ``shadows`` of other pairs of splits. Thresholds for
    accuracy, precision and recall are set on shadow models attacked in the target's stead
    (``calibration_models`` of them); 0 leaves these metrics empty.

    Args:
        targets: T models over n samples.
        shadows: the attacker's models over the same samples.
        specs: the attacks.
        settings: ``Study.attack_settings``.
        protocol: leave-one-out, or fixed-split (clusters are then seeds).
        log: takes one line of text.
    """
    signals = targets.signals
    member = signals.member
    used = attacks.shadow_use(signals, shadows.signals, targets.reserve, settings["seed"])
    valid = np.stack([use.scored for use in used])
    _log_selection(used, int((~targets.reserve).sum()), log)
    clusters = signals.seed if protocol == FIXED_SPLIT else signals.split
    found = Attacked({}, [[] for _ in range(signals.models)], [[] for _ in member], [], [], used)
    count = settings["calibration_models"]
    for spec in specs:
        common = (signals, shadows.signals, spec, targets.reserve, settings["seed"])
        scores = attacks.score_targets(*common)
        limits = attacks.calibrated_thresholds(*common, count) if count else None
        found.scores[spec.name] = scores
        ranked = summary.rank_targets(scores, member, valid)
        _measure(found, spec.name, ranked, limits, clusters, settings)
        log(f"{spec.name}: mean AUC {np.mean([rows[-1]['auc'] for rows in found.rows]):.4f}")
    return found


def _measure(
    found: Attacked,
    attack: str,
    ranked: Sequence[Ranked],
    limits: np.ndarray | None,
    clusters: np.ndarray,
    settings: Mapping[str, Any],
) -> None:
    """Add to ``found`` how well an attack told members of each target, and of all together.

    Args:
        found: of the group.
        attack: its name.
        ranked: its scores of every target.
        limits: a threshold for every target; None leaves accuracy, precision and recall empty.
        clusters: (T,), targets of one number are resampled together.
        settings: ``Study.attack_settings``.
    """
    confidence, replicates = settings["metrics"]["confidence"], settings["metrics"]["bootstrap"]
    for t, one in enumerate(ranked):
        limit = None if limits is None else float(limits[t])
        row = metrics.evaluate_ranked(one, limit, confidence)
        found.rows[t].append({"attack": attack, **row, "threshold": limit})
        found.points[t].append({"attack": attack, **roc.points_ranked(one)})
    rng_seed = seeds.derive_int(settings["seed"], "bootstrap")
    pooled = summary.pool_group(ranked, clusters, confidence, replicates, rng_seed)
    found.pooled.append({"attack": attack, **pooled.row})
    found.curves.append({"attack": attack, **pooled.curve})


def shadow_columns(uses: Sequence[Use], samples: int) -> list[dict[str, Any]]:
    """Return what metric rows say of each target's shadow models.

    Args:
        uses: of every target.
        samples: how many samples there are outside the reserve.

    Returns:
        n_shadows, how many models are used for a sample; shadow_selection, "all" or "equal
        numbers"; n_unscored, samples that go without a score.
    """
    return [
        {
            "n_shadows": use.models if use.each is None else 2 * use.each,
            "shadow_selection": "all" if use.each is None else "equal numbers",
            "n_unscored": samples - int(use.scored.sum()),
            "threshold_source": "shadow models",
        }
        for use in uses
    ]


def _log_selection(uses: Sequence[Use], samples: int, log: Any) -> None:
    """Say so where not all shadow models are used."""
    chosen = [use.each for use in uses if use.each is not None]
    if chosen:
        poor = samples - min(int(use.scored.sum()) for use in uses)
        number = " to ".join(str(count) for count in sorted({min(chosen), max(chosen)}))
        log(
            f"splits are not paired: for every sample {number} IN models and as many OUT models "
            "are used, chosen without the target's membership; at most "
            f"{poor} samples of a target have fewer and go without a score"
        )


def scores_table(attacked: Attacked, targets: Models, t: int) -> pa.Table:
    """Return one target's scores: sample_id, member, one float32 column an attack.

    float32 halves the largest artifact; metrics are computed from float64 before.
    """
    columns = {
        "sample_id": np.arange(targets.signals.samples, dtype=np.int32),
        "member": targets.signals.member[t],
    }
    scores = {name: values[t].astype(np.float32) for name, values in attacked.scores.items()}
    return pa.table({**columns, **scores})


def points_table(blocks: Sequence[Mapping[str, Any]], identity: Mapping[str, Any]) -> pa.Table:
    """Put blocks of arrays (one an attack) below each other, with identity columns first."""
    tables = []
    for block in blocks:
        arrays = {name: value for name, value in block.items() if name != "attack"}
        length = len(next(iter(arrays.values())))
        fixed = {**identity, "attack": block["attack"]}
        repeated = {name: pa.array([value] * length) for name, value in fixed.items()}
        tables.append(pa.table({**repeated, **arrays}))
    return pa.concat_tables(tables)

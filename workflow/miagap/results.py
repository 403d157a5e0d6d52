"""The results of one study as tables, figures and claims read them.

A :class:`StudyResults` holds the tidy tables with the settings that say which of their rows
make the headline: the attack, the false-positive rate, the protocol, the order of techniques.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from miagap import summary
from miagap.errors import InputError
from miagap.names import BEST, FIXED_SPLIT, LEAVE_ONE_OUT

BASELINE = "none"
CELL = ["technique", "attacker_technique", "checkpoint", "protocol", "attack"]
MODEL_CELL = ["technique", "checkpoint"]
EQUAL_NUMBERS = "equal numbers"
"""What the column ``shadow_selection`` says where splits are not paired."""


@dataclass(frozen=True)
class StudyResults:
    """Tables of one study and what to read from them.

    Attributes:
        metrics: one row per tuple x attacker technique x attack (tables/metrics.parquet).
        roc: ROC curves over all targets: technique, attacker_technique, checkpoint, protocol,
            attack, fpr; tpr, tpr_lo, tpr_hi, the mean over targets, NaN where one target does
            not resolve the rate; pooled_tpr, pooled_tpr_lo, pooled_tpr_hi, one threshold for
            all targets, optional. May be empty for tables and claims.
        techniques: technique names in the order of the config.
        pooled: one row per technique, attacker, checkpoint, protocol and attack with
            pooled_tpr_at_fpr_X and its interval (tables/pooled.parquet); optional.
        vulnerability: one row per technique and sample (tables/vulnerability.parquet); optional.
        augmentations: technique -> names of its augmentations; when absent they are read from
            the technique's name (``crop+mirror``).
        families: attack -> family of attacks, in the order of the config; may be empty.
        headline_attack, headline_fpr: the attack and the false-positive rate (share) of the
            tables and figures.
        confidence, replicates, seed: of the bootstrap intervals.
    """

    metrics: pd.DataFrame
    roc: pd.DataFrame
    techniques: tuple[str, ...]
    pooled: pd.DataFrame | None = None
    vulnerability: pd.DataFrame | None = None
    augmentations: Mapping[str, Sequence[str]] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    headline_attack: str = "lira_online"
    headline_fpr: float = 0.001
    confidence: float = 0.95
    replicates: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        needed = {*CELL, "seed", "split", "epoch", "n_members", "n_nonmembers", self.tpr}
        missing = sorted(needed - set(self.metrics.columns))
        if missing:
            raise InputError(
                f"tables/metrics.parquet: column missing: {', '.join(missing)}; make it again"
            )

    @property
    def tpr(self) -> str:
        """Name of the column with the headline true-positive rate."""
        return f"tpr_at_fpr_{self.headline_fpr:g}"

    @cached_property
    def dataset(self) -> str:
        """Name of the dataset, empty when the tables do not say it."""
        column = self.metrics.get("dataset", pd.Series(dtype=str))
        return str(column.iloc[0]) if len(column) else ""

    @cached_property
    def protocols(self) -> tuple[str, ...]:
        """Protocols of the study; the first is the one of tables and figures."""
        found = set(self.metrics["protocol"])
        return tuple(name for name in (LEAVE_ONE_OUT, FIXED_SPLIT) if name in found)

    @cached_property
    def protocol(self) -> str:
        """The protocol of tables and figures: leave-one-out where the study has it."""
        if not self.protocols:
            raise InputError("tables/metrics.parquet: no rows; run the attacks again")
        return self.protocols[0]

    @cached_property
    def final(self) -> dict[str, str]:
        """Technique -> its final checkpoint (largest epoch, never the one named best)."""
        trained = self.metrics[self.metrics["checkpoint"] != BEST]
        last = trained.sort_values("epoch").groupby("technique")["checkpoint"].last()
        return {name: str(last[name]) for name in self.techniques if name in last.index}

    @cached_property
    def attacks(self) -> tuple[str, ...]:
        """Attacks of the study, in the order of the config where that is known."""
        found = dict.fromkeys(str(name) for name in self.metrics["attack"])
        return tuple([name for name in self.families if name in found] or found)

    @property
    def resampled(self) -> str:
        """What the bootstrap of the tables resamples; fixed-split targets share one split."""
        return "training seeds" if self.protocol == FIXED_SPLIT else "splits"

    def checkpoints(self, technique: str) -> list[str]:
        """Checkpoints of ``technique`` in the order of their epochs, ``best`` last."""
        rows = self.metrics.loc[self.metrics["technique"] == technique, ["checkpoint", "epoch"]]
        rows = rows.drop_duplicates("checkpoint").sort_values("epoch")
        names = [str(name) for name in rows["checkpoint"]]
        return sorted(names, key=lambda name: name == BEST)

    @cached_property
    def early_stopping_technique(self) -> str:
        """The technique of the early-stopping table: most checkpoints, ``none`` when equal."""
        count = {name: len(self.checkpoints(name)) for name in self.final}
        return max(count, key=lambda name: (count[name], name == BASELINE))

    def augmentations_of(self, technique: str) -> frozenset[str]:
        """Names of the augmentations that ``technique`` trains with."""
        if technique in self.augmentations:
            return frozenset(self.augmentations[technique])
        return frozenset(() if technique == BASELINE else technique.split("+"))

    def epoch_of(self, technique: str, checkpoint: str) -> int:
        """Epoch of a checkpoint; of ``best`` the mean over models, rounded."""
        rows = self.metrics[
            (self.metrics["technique"] == technique) & (self.metrics["checkpoint"] == checkpoint)
        ]
        return round(float(rows["epoch"].mean()))

    def rows(self, frame: pd.DataFrame, **where: str) -> pd.DataFrame:
        """Rows of ``frame`` in which every column named in ``where`` has its value."""
        keep = np.ones(len(frame), dtype=bool)
        for column, value in where.items():
            keep &= (frame[column] == value).to_numpy()
        return frame[keep]

    def knowing(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Headline rows of ``frame``: headline attack and protocol, attacker knows the technique.

        Where an attacker uses final shadow models only, a tuple still has one row.
        """
        kept = self.rows(frame, attack=self.headline_attack, protocol=self.protocol)
        return kept[kept["technique"] == kept["attacker_technique"]]

    @cached_property
    def headline(self) -> pd.DataFrame:
        """Rows of metrics with the headline attack and protocol by an attacker who knows."""
        return self.knowing(self.metrics)

    @cached_property
    def smallest_fpr(self) -> float:
        """Smallest false-positive rate above zero that one target can show, 1 / n_out."""
        return 1.0 / float(self.metrics["n_nonmembers"].min())

    @property
    def chance(self) -> float:
        """Expected rate at the headline of an attack that knows nothing.

        The threshold is the (k + 1)-th largest of n non-member scores, k = floor(a * n); an
        exchangeable member exceeds it with probability (k + 1) / (n + 1).
        """
        nonmembers = float(self.metrics["n_nonmembers"].min())
        return float((np.floor(self.headline_fpr * nonmembers + 1e-9) + 1) / (nonmembers + 1))

    @property
    def tpr_label(self) -> str:
        """Name and unit of the headline rate; of an unresolved one what it is in truth."""
        if self.resolved:
            return f"TPR (%) at {100 * self.headline_fpr:g}% FPR"
        return f"TPR (%) at 0 false positives (FPR < {100 * self.smallest_fpr:.2g}%)"

    @property
    def resolved(self) -> bool:
        """Whether the headline rate allows one target at least one false positive."""
        return self.headline_fpr >= self.smallest_fpr

    def summarise(
        self, frame: pd.DataFrame, values: Sequence[str], by: Sequence[str]
    ) -> pd.DataFrame:
        """Mean over targets of each of ``values`` per group ``by``, with an interval.

        Returns:
            One row per group: ``by``, ``n_targets`` and for each value ``<value>``,
            ``<value>_lo``, ``<value>_hi`` (bootstrap over splits).
        """
        needed = dict.fromkeys([*by, *values, "seed", "split", "protocol", "n_members"])
        return summary.over_targets(
            frame[list(needed)], by, self.confidence, self.replicates, self.seed
        )

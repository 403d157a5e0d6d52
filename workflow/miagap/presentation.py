"""Results and style as tables and figures take them, from files and settings."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from miagap import artifacts
from miagap.results import StudyResults


def load_results(
    metrics: str, curves: str, pooled: str, settings: str, vulnerability: str | None = None
) -> StudyResults:
    """Read the tidy tables of a study.

    Args:
        metrics: path of tables/metrics.parquet.
        curves: path of tables/roc.parquet.
        pooled: path of tables/pooled.parquet.
        settings: ``Study.presentation_settings``.
        vulnerability: path of tables/vulnerability.parquet, for what shows it.

    Raises:
        InputError: a table is missing, truncated or lacks a column.
    """
    values: Mapping[str, Any] = json.loads(settings)
    roc = artifacts.read_parquet(curves).to_pandas()
    roc = roc.rename(columns={f"mean_tpr{end}": f"tpr{end}" for end in ("", "_lo", "_hi")})
    return StudyResults(
        metrics=_plain(artifacts.read_parquet(metrics).to_pandas()),
        roc=_plain(roc),
        techniques=tuple(values["techniques"]),
        pooled=_plain(artifacts.read_parquet(pooled).to_pandas()),
        vulnerability=(
            None if vulnerability is None else artifacts.read_parquet(vulnerability).to_pandas()
        ),
        augmentations=values["augmentations"],
        families={name: values["families"][name] for name in values["attacks"]},
        headline_attack=values["metrics"]["headline_attack"],
        headline_fpr=values["metrics"]["headline_fpr"],
        confidence=values["metrics"]["confidence"],
        replicates=values["metrics"]["bootstrap"],
        seed=values["seed"],
    )


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reset_index(drop=True)

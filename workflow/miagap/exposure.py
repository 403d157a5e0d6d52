"""How exposed each sample is: per technique, per training seed, and how far these agree."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import special

from miagap import artifacts, intervals, summary
from miagap.errors import InputError
from miagap.names import parse_run_name

TOP = 0.01
"""Share of the samples that count as the most exposed."""
GROUP = ["technique", "seed"]
HALVES = ("rank_in_first_half", "rank_in_second_half")
"""``rank_in`` by half of a technique's models: how far these agree bounds all other agreement."""


def of_files(
    paths: Sequence[str],
    attack: str,
    reserve: np.ndarray,
    fpr: float,
    confidence: float,
    identity: Mapping[str, str],
) -> pa.Table:
    """Return how exposed each sample is in the targets of one technique.

    Args:
        paths: scores of the targets, named by seed and split.
        attack: its column in them.
        reserve: bool (n,), samples that no split holds.
        fpr: false-positive rate at which a sample counts as found.
        confidence: of the binomial interval of found_share.
        identity: columns that come first.

    Returns:
        ``identity``, seed (null: all seeds together), then the columns of
        ``summary.vulnerability`` and ``HALVES`` (only with all seeds together); one row a
        sample, once for all seeds and, of several, once for each.
    """
    runs = [parse_run_name(Path(path).name.split(".")[0]) for path in paths]
    seeds = np.array([seed for seed, _ in runs])
    tables = [artifacts.read_parquet(path, ["member", attack]) for path in paths]
    scores = np.stack([table[attack].to_numpy() for table in tables]).astype(np.float64)
    member = np.stack([table["member"].to_numpy() for table in tables])
    several: list[int] = np.unique(seeds).tolist() if np.unique(seeds).size > 1 else []
    parts = []
    for seed, chosen in [(None, seeds >= 0), *((seed, seeds == seed) for seed in several)]:
        valid = ~reserve & ~np.isnan(scores[chosen])
        columns = summary.vulnerability(
            scores[chosen], member[chosen], valid, fpr=fpr, confidence=confidence
        )
        n = len(columns["sample_id"])
        halves = _half_ranks(scores, member, valid, runs) if seed is None else []
        arrays = {**columns, **dict(zip(HALVES, halves, strict=False))}
        named = {name: pa.array([value] * n) for name, value in identity.items()}
        named["seed"] = pa.array([seed] * n, pa.int32())
        parts.append(pa.table({**named, **arrays}))
    return pa.concat_tables(parts, promote_options="default")


def _half_ranks(
    scores: np.ndarray, member: np.ndarray, valid: np.ndarray, runs: Sequence[tuple[int, int]]
) -> list[np.ndarray]:
    """Return ``rank_in`` over each of two halves of the models, each float64 (n,).

    Pairs of splits stay together, so that every sample is IN equally many models of either half;
    models of one split are halved by their seed.
    """
    pairs = [split // 2 for _, split in runs]
    units = pairs if len(set(pairs)) > 1 else [seed for seed, _ in runs]
    place = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    half = np.array([place[unit] % 2 for unit in units])
    ranks = []
    for which in (0, 1):
        own = half == which
        if not own.any():
            ranks.append(np.full(scores.shape[1], np.nan))
            continue
        found = summary.vulnerability(scores[own], member[own], valid[own])
        ranks.append(found["rank_in"])
    return ranks


def stability(frame: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Return how far techniques, and training seeds of one technique, agree on who is exposed.

    Samples are ordered by ``rank_in``: the share of a target's non-members that score lower,
    over the targets that trained on the sample.

    Args:
        frame: tables/vulnerability.parquet.
        confidence: of the intervals.

    Returns:
        One row a pair: compared (halves of a technique's models, techniques or seeds), first,
        second, n_samples, top (size of the sets of most exposed), spearman, jaccard, each with
        _lo and _hi, and jaccard_chance.
        Spearman's interval is Bonett and Wright's (2000), over samples; Jaccard's comes from the
        binomial interval of the number that the sets share.
    """
    rows = []
    for compared, first, second, a, b in _pairs(frame):
        known = ~(np.isnan(a) | np.isnan(b))
        n = int(known.sum())
        top = max(1, round(TOP * n))
        if n < 4:
            continue
        found = summary.stability(a, b, top)
        row = {"compared": compared, "first": first, "second": second, "n_samples": n, "top": top}
        low, high = spearman_interval(found["spearman"], n, confidence)
        row |= {"spearman": found["spearman"], "spearman_lo": low, "spearman_hi": high}
        shared = round(2 * top * found["jaccard"] / (1 + found["jaccard"]))
        ends = intervals.clopper_pearson(np.array([shared]), np.array([top]), confidence)
        row |= {"jaccard": found["jaccard"]}
        row |= {
            f"jaccard_{name}": float(share[0] / (2 - share[0]))
            for name, share in zip(("lo", "hi"), ends, strict=True)
        }
        rows.append({**row, "jaccard_chance": found["expected"]})
    return pd.DataFrame(rows)


def _pairs(frame: pd.DataFrame) -> Iterator[tuple[str, str, str, np.ndarray, np.ndarray]]:
    """Yield what is compared, both names, and rank_in of every sample in both."""
    common = frame[frame["seed"].isna()]
    techniques = dict.fromkeys(common["technique"])
    ranks = {name: _ranks(common[common["technique"] == name]) for name in techniques}
    for technique in techniques:
        rows = common[common["technique"] == technique].sort_values("sample_id")
        if set(HALVES) <= set(rows):
            names = (f"{technique}, half of the models", f"{technique}, the other half")
            yield "halves", *names, *(rows[name].to_numpy(float) for name in HALVES)
    for first, second in combinations(techniques, 2):
        yield "techniques", first, second, ranks[first], ranks[second]
    own = frame[frame["seed"].notna()]
    for technique in techniques:
        rows = own[own["technique"] == technique]
        by_seed = {int(seed): _ranks(part) for seed, part in rows.groupby("seed")}
        for one, other in combinations(by_seed, 2):
            names = (f"{technique}, seed {one}", f"{technique}, seed {other}")
            yield "seeds", *names, by_seed[one], by_seed[other]


def _ranks(rows: pd.DataFrame) -> np.ndarray:
    return rows.sort_values("sample_id")["rank_in"].to_numpy()


def spearman_interval(rho: float, n: int, confidence: float) -> tuple[float, float]:
    """Return the interval of a rank correlation of n samples (Bonett and Wright 2000)."""
    if not np.isfinite(rho) or n < 4:
        return np.nan, np.nan
    z = special.ndtri((1 + confidence) / 2) * np.sqrt((1 + rho * rho / 2) / (n - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return float(np.tanh(centre - z)), float(np.tanh(centre + z))


def extremes(rows: pd.DataFrame, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the most and the least exposed samples of one technique, in order.

    By the share of targets in which a sample is found, then by ``rank_in``.
    """
    known = rows[rows["rank_in"].notna()]
    if known.empty:
        raise InputError("tables/vulnerability.parquet: no target trained on any sample")
    ordered = known.sort_values(["found_share", "rank_in", "sample_id"], ascending=[False] * 3)
    return ordered.head(count), ordered.tail(count).iloc[::-1]

"""The paper's claims, tested on a study: effect size, interval, verdict.

Each claim of arXiv:2604.19936 becomes one or more numbers with a value that means "no effect".
The verdict is read off the interval alone: it *agrees* when the whole interval lies on the
claim's side of no effect, *disagrees* when it lies on the other side, and is *undecided* when
it contains no effect. A claim whose models or attackers the study lacks is *not tested*.

Intervals resample the splits, the same ones for every technique: techniques share their
splits, so comparing them within a resample removes what a split does to all of them. The
techniques themselves are taken as given. Ratios of true-positive rates are compared on the log
scale, each rate moved up by half a member of all members attacked, so that a rate of zero
stays comparable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from miagap import intervals
from miagap.results import BASELINE, StudyResults
from miagap.summary import cluster_labels

AGREES, DISAGREES, UNDECIDED, NOT_TESTED = "agrees", "disagrees", "undecided", "not tested"
_FEWEST_SPLITS = 3
_FEWEST_CELLS = 4


@dataclass(frozen=True)
class Claim:
    """One tested statement.

    Attributes:
        key: a to e, as in the documentation.
        statement: what the paper says.
        subject: the models that the number is about.
        effect: what the number is.
        estimate, lo, hi: the effect and its interval; NaN when not tested.
        no_effect: value of the effect under which the claim says nothing.
        verdict: agrees, disagrees, undecided, not tested.
        text: the verdict in a sentence.
    """

    key: str
    statement: str
    subject: str
    effect: str
    estimate: float
    lo: float
    hi: float
    no_effect: float
    verdict: str
    text: str

    def as_row(self) -> dict[str, object]:
        """Return the claim as a row of a table."""
        return dict(self.__dict__)

    def estimate_text(self) -> str:
        """Return the estimate with its interval, or a dash."""
        if not np.isfinite(self.estimate):
            return "–"
        return f"{_short(self.estimate)} [{_short(self.lo)}, {_short(self.hi)}]"


@dataclass(frozen=True)
class Cells:
    """Means per cell and split, ready to resample.

    Attributes:
        keys: one tuple per cell.
        values: name -> (cells, splits), means over the targets of a split.
        members: (cells,), members attacked in all targets of a cell.
    """

    keys: list[tuple[str, ...]]
    values: dict[str, np.ndarray]
    members: np.ndarray


def evaluate(study: StudyResults) -> list[Claim]:
    """Return every claim, tested or not, in the order of the documentation."""
    found: list[Claim] = []
    for test in (_techniques_cut, _combining, _gap_predicts, _loss_gap, _knowing):
        found.extend(test(study))
    return found


# --- resampling ----------------------------------------------------------------------------


def cells_of(frame: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> Cells:
    """Return means per cell and split; splits that some cell lacks are left out.

    Raises:
        ValueError: fewer than three splits are common to all cells.
    """
    cluster = "cluster"
    frame = frame.assign(cluster=cluster_labels(frame))
    means = frame.groupby([*by, cluster], sort=False)[[*values, "n_members"]].mean()
    wide = pd.DataFrame(means.unstack(cluster)).dropna(axis=1)
    splits = len(wide[values[0]].columns) if len(wide) and values[0] in wide else 0
    if splits < _FEWEST_SPLITS:
        raise ValueError("too few splits")
    members = frame.groupby(list(by), sort=False)["n_members"].sum().reindex(wide.index)
    keys = [key if isinstance(key, tuple) else (key,) for key in wide.index]
    arrays = {name: wide[name].to_numpy(dtype=float) for name in values}
    return Cells(keys, arrays, members.to_numpy(dtype=float))


def _weights(splits: int, study: StudyResults) -> np.ndarray:
    """Return (replicates + 1, splits) weights that sum to one; row 0 is the data themselves."""
    drawn = intervals.resample_clusters(splits, study.replicates, study.seed)
    return np.vstack([np.ones(splits), drawn]) / splits


def log_rates(cells: Cells, name: str, weights: np.ndarray) -> np.ndarray:
    """Return log of the mean rate, (replicates + 1, cells), moved up by half a member."""
    return np.log(weights @ cells.values[name].T + 0.5 / cells.members)


def _interval(
    samples: np.ndarray, splits: int, study: StudyResults, comparisons: int = 1
) -> tuple[float, float, float]:
    """Return estimate and interval from (replicates + 1,) samples, row 0 being the estimate.

    With several ``comparisons`` the level is Bonferroni's.
    """
    confidence = 1 - (1 - study.confidence) / comparisons
    lo, hi = intervals.interval_of(samples[1:], samples[0], splits, confidence)
    return float(samples[0]), float(lo), float(hi)


def _verdict(lo: float, hi: float, no_effect: float, claimed: int) -> str:
    """Return the verdict on a claim that the effect is above (1) or below (-1) ``no_effect``."""
    if not (np.isfinite(lo) and np.isfinite(hi)):
        return NOT_TESTED
    below, above = hi < no_effect, lo > no_effect
    if not (below or above):
        return UNDECIDED
    return AGREES if above == (claimed > 0) else DISAGREES


def _untested(key: str, statement: str, subject: str, reason: str) -> Claim:
    nan = float("nan")
    text = f"Not tested: {reason}."
    return Claim(key, statement, subject, "–", nan, nan, nan, 1.0, NOT_TESTED, text)


# --- (a) techniques cut the attack -----------------------------------------------------------

_CUT = "Techniques cut the attack by up to 100x"


def _final_rows(study: StudyResults) -> pd.DataFrame:
    rows = study.headline
    return rows[rows["checkpoint"] == rows["technique"].map(study.final)]


def _techniques_cut(study: StudyResults) -> list[Claim]:
    others = [name for name in study.final if name != BASELINE]
    if BASELINE not in study.final or not others:
        return [_untested("a", _CUT, "techniques", f"needs {BASELINE} and another technique")]
    try:
        cells = cells_of(_final_rows(study), ["technique"], [study.tpr])
    except ValueError as error:
        return [_untested("a", _CUT, "techniques", str(error))]
    splits = cells.values[study.tpr].shape[1]
    logs = log_rates(cells, study.tpr, _weights(splits, study))
    place = {key[0]: index for index, key in enumerate(cells.keys)}
    ratios = {name: logs[:, place[BASELINE]] - logs[:, place[name]] for name in others}
    best = max(others, key=lambda name: ratios[name][0])
    effect = f"TPR of {BASELINE} / TPR of the technique"
    found = [_largest_cut(best, _interval(ratios[best], splits, study, len(others)), len(others))]
    for name in others:
        estimate, lo, hi = np.exp(_interval(ratios[name], splits, study))
        verdict = _verdict(lo, hi, 1.0, 1)
        words = {
            AGREES: f"{name} cuts the attack to 1/{_short(estimate)} of its rate",
            DISAGREES: f"{name} leaks more than {BASELINE}",
            UNDECIDED: f"No difference between {name} and {BASELINE} is shown",
        }[verdict]
        found.append(Claim("a", _CUT, name, effect, estimate, lo, hi, 1.0, verdict, f"{words}."))
    return found


def _largest_cut(name: str, log_ratio: tuple[float, float, float], count: int) -> Claim:
    estimate, lo, hi = np.exp(log_ratio)
    verdict = _verdict(lo, hi, 1.0, 1)
    size = (
        "the interval contains the paper's 100x"
        if lo <= 100 <= hi
        else f"the paper's 100x is {'above' if hi < 100 else 'below'} the interval"
    )
    words = {
        AGREES: f"Techniques cut the attack: {name} most, by {_short(estimate)}x; {size}",
        DISAGREES: f"No technique cuts the attack; {size}",
        UNDECIDED: f"No cut is shown; {size}",
    }[verdict]
    effect = f"largest cut (of {count}, interval corrected for choosing it)"
    subject = f"largest: {name}"
    return Claim("a", _CUT, subject, effect, estimate, lo, hi, 1.0, verdict, f"{words}.")


# --- (b) combining cuts more -----------------------------------------------------------------

_COMBINE = "Combining techniques cuts the attack more than each alone"


def _combinations(study: StudyResults) -> dict[str, list[str]]:
    """Return combined technique -> the single techniques of the study that it is made of."""
    made_of = {name: study.augmentations_of(name) for name in study.final}
    singles = {next(iter(parts)): name for name, parts in made_of.items() if len(parts) == 1}
    found = {}
    for name, parts in made_of.items():
        if name == "all" and parts == {"all"}:
            parts = frozenset(singles) - {"all"}
        alone = [single for part, single in singles.items() if part in parts and single != name]
        if len(parts) > 1 and alone:
            found[name] = alone
    return found


def _combining(study: StudyResults) -> list[Claim]:
    combined = _combinations(study)
    if not combined:
        return [_untested("b", _COMBINE, "combinations", "the study combines no techniques")]
    try:
        cells = cells_of(_final_rows(study), ["technique"], [study.tpr])
    except ValueError as error:
        return [_untested("b", _COMBINE, "combinations", str(error))]
    splits = cells.values[study.tpr].shape[1]
    logs = log_rates(cells, study.tpr, _weights(splits, study))
    place = {key[0]: index for index, key in enumerate(cells.keys)}
    effect = "TPR of its best part alone / TPR of the combination"
    ratios, found = [], []
    for name, parts in combined.items():
        alone = logs[:, [place[part] for part in parts]].min(axis=1)
        ratios.append(alone - logs[:, place[name]])
        estimate, lo, hi = np.exp(_interval(ratios[-1], splits, study))
        verdict = _verdict(lo, hi, 1.0, 1)
        words = {
            AGREES: f"{name} leaks less than the best of {', '.join(parts)} alone",
            DISAGREES: f"{name} leaks more than the best of {', '.join(parts)} alone",
            UNDECIDED: f"No difference between {name} and the best of {', '.join(parts)} is shown",
        }[verdict]
        found.append(
            Claim("b", _COMBINE, name, effect, estimate, lo, hi, 1.0, verdict, f"{words}.")
        )
    counts = {
        word: sum(c.verdict == word for c in found) for word in (AGREES, DISAGREES, UNDECIDED)
    }
    estimate, lo, hi = np.exp(_interval(np.mean(ratios, axis=0), splits, study))
    text = (
        f"Of {len(found)} combinations {counts[AGREES]} leak less than their best part, "
        f"{counts[DISAGREES]} leak more, {counts[UNDECIDED]} are undecided."
    )
    verdict = _verdict(lo, hi, 1.0, 1)
    mean = Claim(
        "b",
        _COMBINE,
        "all combinations",
        f"{effect}, geometric mean",
        estimate,
        lo,
        hi,
        1.0,
        verdict,
        text,
    )
    return [mean, *found]


# --- (c), (d) what predicts leakage ----------------------------------------------------------

_GAP = "The accuracy gap predicts TPR better than test accuracy does"
_LOSS = "The loss gap goes with TPR more smoothly than the accuracy gap does"


def _trained_cells(study: StudyResults) -> Cells:
    """Return every trained (technique, checkpoint) with its leakage and generalization."""
    rows = study.headline
    rows = rows[rows["epoch"] > 0]
    values = [study.tpr, "accuracy_gap", "test_accuracy", "loss_gap"]
    cells = cells_of(rows, ["technique", "checkpoint"], values)
    if len(cells.keys) < _FEWEST_CELLS:
        raise ValueError(f"needs {_FEWEST_CELLS} techniques or checkpoints")
    return cells


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of each row, (replicates,); ties share ranks."""
    return _pearson(rankdata(x, axis=1), rankdata(y, axis=1))


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(axis=1) / scale


def _strength(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(spearman(x, y))


def _r_squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _pearson(x, y) ** 2


def _monotone_fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the share of y's variance that the best increasing curve in x explains, per row."""
    found = np.empty(len(x))
    for row, (a, b) in enumerate(zip(x, y, strict=True)):
        ordered = b[np.lexsort((b, a))]
        rest = ordered - isotonic_regression(ordered).x
        found[row] = 1 - rest.var() / ordered.var() if ordered.var() > 0 else np.nan
    return found


def correlation(study: StudyResults, column: str) -> tuple[float, float, float, int]:
    """Return Spearman's correlation of ``column`` with TPR over cells, its interval, the cells.

    NaN throughout (and 0 cells) when the study has too few splits or cells.
    """
    try:
        cells = _trained_cells(study)
    except ValueError:
        return float("nan"), float("nan"), float("nan"), 0
    splits = cells.values[study.tpr].shape[1]
    weights = _weights(splits, study)
    samples = spearman(weights @ cells.values[column].T, weights @ cells.values[study.tpr].T)
    estimate, lo, hi = _interval(samples, splits, study)
    low, high = _reflected(samples, splits, study)
    return estimate, max(min(lo, low), -1.0), min(max(hi, high), 1.0), len(cells.keys)


def _reflected(samples: np.ndarray, splits: int, study: StudyResults) -> tuple[float, float]:
    """Return the limits of a correlation that resampling shows on the other side of it.

    Noise in the means weakens a correlation, and resampling weakens it once more: percentiles
    alone lie below the correlation of the true means (on the cells of a study with 16 splits
    they held it in 23% of simulated studies). What they fall short on Fisher's scale is added.
    """
    z = np.arctanh(np.clip(samples, -1 + 1e-6, 1 - 1e-6))
    estimate, lo, hi = _interval(z, splits, study)
    return float(np.tanh(2 * estimate - hi)), float(np.tanh(2 * estimate - lo))


_Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _compare(
    study: StudyResults,
    key: str,
    statement: str,
    columns: tuple[str, str],
    measures: dict[str, tuple[_Measure, str]],
) -> list[Claim]:
    """Test that the first column goes with TPR more closely than the second, by each measure."""
    names = [column.replace("_", " ") for column in columns]
    subject = f"{names[0]} vs {names[1]}"
    try:
        cells = _trained_cells(study)
    except ValueError as error:
        return [_untested(key, statement, subject, str(error))]
    splits = cells.values[study.tpr].shape[1]
    weights = _weights(splits, study)
    logs = log_rates(cells, study.tpr, weights)
    found = []
    for effect, (measure, symbol) in measures.items():
        first, second = (measure(weights @ cells.values[name].T, logs) for name in columns)
        estimate, lo, hi = _interval(first - second, splits, study)
        verdict = _verdict(lo, hi, 0.0, 1)
        closer = {AGREES: f"{names[0]} is closer", DISAGREES: f"{names[1]} is closer"}
        text = (
            f"{symbol} {first[0]:.2f} for the {names[0]}, {second[0]:.2f} for the {names[1]}, "
            f"over {len(cells.keys)} techniques and checkpoints: "
            f"{closer.get(verdict, 'no difference is shown')}."
        )
        found.append(Claim(key, statement, subject, effect, estimate, lo, hi, 0.0, verdict, text))
    return found


def _gap_predicts(study: StudyResults) -> list[Claim]:
    return _compare(
        study,
        "c",
        _GAP,
        ("accuracy_gap", "test_accuracy"),
        {
            "difference of |Spearman ρ| with TPR": (_strength, "|ρ|"),
            "difference of R² with log TPR": (_r_squared, "R²"),
        },
    )


def _loss_gap(study: StudyResults) -> list[Claim]:
    return _compare(
        study,
        "d",
        _LOSS,
        ("loss_gap", "accuracy_gap"),
        {
            "difference of R² of the best monotone curve of log TPR": (
                _monotone_fit,
                "R² of the best increasing curve",
            ),
            "difference of |Spearman ρ| with TPR": (_strength, "|ρ|"),
        },
    )


# --- (e) knowing the technique ---------------------------------------------------------------

_KNOW_ONE = "Knowing the technique helps the attacker for one augmentation (up to 5x)"
_KNOW_MANY = "Knowing the technique hurts the attacker for many augmentations"


def _knowing(study: StudyResults) -> list[Claim]:
    rows = study.rows(study.metrics, attack=study.headline_attack, protocol=study.protocol)
    rows = rows[rows["checkpoint"] == rows["technique"].map(study.final)]
    combined = _combinations(study)
    groups: dict[bool, list[tuple[str, np.ndarray, int]]] = {False: [], True: []}
    for name in study.final:
        parts = study.augmentations_of(name)
        if parts and name != BASELINE:
            samples = _knowledge_ratio(study, rows[rows["technique"] == name], name)
            if samples is not None:
                groups[len(parts) > 1 or name in combined].append((name, *samples))
    return [
        claim
        for many, statement, claimed in ((False, _KNOW_ONE, 1), (True, _KNOW_MANY, -1))
        for claim in _knowledge_claims(study, statement, claimed, groups[many])
    ]


def _knowledge_ratio(
    study: StudyResults, rows: pd.DataFrame, name: str
) -> tuple[np.ndarray, int] | None:
    """Return log ratios of TPR with and without knowledge, or None where a side is missing."""
    rows = rows[rows["attacker_technique"].isin([name, BASELINE])]
    try:
        cells = cells_of(rows, ["attacker_technique"], [study.tpr])
    except ValueError:
        return None
    place = {key[0]: index for index, key in enumerate(cells.keys)}
    if set(place) != {name, BASELINE}:
        return None
    splits = cells.values[study.tpr].shape[1]
    logs = log_rates(cells, study.tpr, _weights(splits, study))
    return logs[:, place[name]] - logs[:, place[BASELINE]], splits


def _knowledge_claims(
    study: StudyResults, statement: str, claimed: int, group: list[tuple[str, np.ndarray, int]]
) -> list[Claim]:
    which = "one augmentation" if claimed > 0 else "many augmentations"
    if not group:
        reason = f"needs techniques with {which} that an attacker with {BASELINE} attacks too"
        return [_untested("e", statement, which, reason)]
    effect = f"TPR of an attacker who knows / of one who trains with {BASELINE}"
    found = []
    for name, samples, splits in group:
        estimate, lo, hi = np.exp(_interval(samples, splits, study))
        verdict = _verdict(lo, hi, 1.0, claimed)
        found.append(
            Claim(
                "e",
                statement,
                name,
                effect,
                estimate,
                lo,
                hi,
                1.0,
                verdict,
                _knowledge_text(name, estimate, lo, hi),
            )
        )
    if len(group) > 1:
        splits = min(size for _, _, size in group)
        mean = np.mean([samples for _, samples, _ in group], axis=0)
        estimate, lo, hi = np.exp(_interval(mean, splits, study))
        verdict = _verdict(lo, hi, 1.0, claimed)
        text = _knowledge_text(f"{which} (geometric mean of {len(group)})", estimate, lo, hi)
        subject = f"mean of {len(group)}: {which}"
        found.insert(
            0, Claim("e", statement, subject, effect, estimate, lo, hi, 1.0, verdict, text)
        )
    return found


def _knowledge_text(subject: str, estimate: float, lo: float, hi: float) -> str:
    if lo > 1:
        return f"Knowing helps against {subject}: {_short(estimate)}x the rate."
    if hi < 1:
        return f"Knowing hurts against {subject}: {_short(estimate)}x the rate."
    return f"No effect of knowing is shown for {subject}."


def _short(number: float) -> str:
    """Return a number with three significant digits, never in scientific notation."""
    if not np.isfinite(number):
        return "–"
    if number == 0:
        return "0"
    digits = max(0, 2 - int(np.floor(np.log10(abs(number)))))
    return f"{number:.{min(digits, 4)}f}"

"""The tables of a study: one set of numbers, written as CSV, Markdown, LaTeX and HTML.

The CSV holds plain numbers (shares, nats) with their intervals in columns of their own and
the column names of tables/metrics.parquet; the other formats hold what a reader wants to see:
percent with the interval beside the estimate.
"""

import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from miagap import claims, exposure, metrics, reference
from miagap.errors import InputError
from miagap.names import BEST, FIXED_SPLIT
from miagap.results import BASELINE, EQUAL_NUMBERS, MODEL_CELL, StudyResults

DAGGER = "†"
_MISSING = "–"
_WIDEST = 45  # characters of a LaTeX column that is not broken into lines
_ACCURACIES = ("train_accuracy", "test_accuracy", "accuracy_gap")
_GENERALIZATION = (*_ACCURACIES, "loss_gap")
_INTERVAL = ("", "_lo", "_hi")
_DECISIONS = {
    "accuracy": "Accuracy at the threshold (%)",
    "accuracy_best": "Accuracy, bound (%)",
    "balanced_accuracy": "Balanced acc. at the threshold (%)",
    "balanced_accuracy_best": "Balanced acc., bound (%)",
    "precision": "Precision at the threshold (%)",
    "recall": "Recall at the threshold (%)",
    **{
        f"precision_at_recall_{recall:g}": f"Precision at {100 * recall:g}% recall (%)"
        for recall in metrics.RECALLS
    },
    **{f"ppv_at_prior_{prior:g}": f"PPV, {100 * prior:g}% members (%)" for prior in metrics.PRIORS},
}


@dataclass(frozen=True)
class Table:
    """A table in two forms.

    Attributes:
        title: one line.
        frame: plain numbers, one column each.
        display: the same rows as text, ready to print; columns are headings with units.
        footnotes: sentences below the table.
    """

    title: str
    frame: pd.DataFrame
    display: pd.DataFrame
    footnotes: tuple[str, ...] = ()


# --- numbers as text -----------------------------------------------------------------------


def percent(value: float) -> str:
    """Return a share as percent: one decimal from 10% on, two below."""
    if not np.isfinite(value):
        return _MISSING
    number = 100 * value
    return f"{number:.1f}" if abs(number) >= 9.995 else f"{number:.2f}"


def _decimals(number: float) -> int:
    return 1 if abs(number) >= 9.995 else 2


def percent_interval(value: float, lo: float, hi: float) -> str:
    """Return ``19.6 [18.9, 20.3]``: a share and its interval in percent.

    All three have the decimals of the estimate; without an interval it is left out.
    """
    if not np.isfinite(value):
        return _MISSING
    digits = _decimals(100 * value)
    return number_interval(100 * value, 100 * lo, 100 * hi, digits)


def number_interval(value: float, lo: float, hi: float, digits: int = 3) -> str:
    """Return ``value [lo, hi]`` with ``digits`` decimals, without the interval if there is none."""
    if not np.isfinite(value):
        return _MISSING
    text = f"{value:.{digits}f}"
    if np.isfinite(lo) and np.isfinite(hi):
        text += f" [{lo:.{digits}f}, {hi:.{digits}f}]"
    return text


# --- the tables ----------------------------------------------------------------------------


def augmentation(study: StudyResults) -> Table:
    """Return one row per technique at its final checkpoint: accuracies, gaps, leakage."""
    cells = [(name, study.final[name]) for name in study.techniques if name in study.final]
    paper = {name: reference.AUGMENTATION.get(name) for name, _ in cells}
    frame = _leakage(study, cells)
    frame = _with_paper(study, frame, [paper[name] for name in frame["technique"]])
    display = _display_leakage(study, frame, "technique", "Technique")
    title = "Techniques: generalization and membership leakage of the final models"
    return Table(title, frame, display, _leakage_notes(study, frame))


def early_stopping(study: StudyResults) -> Table:
    """Return one row per checkpoint, in order, of the technique that has most checkpoints."""
    technique = study.early_stopping_technique
    names = study.checkpoints(technique)
    frame = _leakage(study, [(technique, name) for name in names])
    # The paper's table is about training without augmentation; its checkpoints stand beside
    # ours by their order, and only where there are as many.
    trained = [name for name in frame["checkpoint"] if name not in ("0", BEST)]
    alike = technique == BASELINE and len(trained) == len(reference.EARLY_STOPPING)
    paper = dict(zip(trained, reference.EARLY_STOPPING.values(), strict=alike)) if alike else {}
    frame = _with_paper(study, frame, [paper.get(name) for name in frame["checkpoint"]])
    frame.insert(2, "epoch", [study.epoch_of(technique, name) for name in frame["checkpoint"]])
    display = _display_leakage(study, frame, "checkpoint", "Checkpoint (epoch)")
    title = f"Early stopping: checkpoints of models trained with technique {technique}"
    return Table(title, frame, display, _leakage_notes(study, frame))


def attack_comparison(study: StudyResults) -> Table:
    """Return one row per attack and technique at the final checkpoint, by an attacker who knows."""
    rows = study.rows(study.metrics, protocol=study.protocol)
    rows = rows[rows["technique"] == rows["attacker_technique"]]
    rows = rows[rows["checkpoint"] == rows["technique"].map(study.final)]
    values = [study.tpr, "tpr_at_fpr_0.01", "auc", "balanced_accuracy"]
    values = [name for name in dict.fromkeys(values) if name in rows]
    frame = study.summarise(rows, values, ["attack", "technique", "checkpoint"])
    frame.insert(0, "family", [study.families.get(name, "") for name in frame["attack"]])
    frame = _by_technique_and_attack(study, frame)
    display = pd.DataFrame({"Technique": frame["technique"], "Attack": frame["attack"]})
    if study.families:
        display.insert(1, "Family", frame["family"])
    for value in values:
        mark = _dagger(study, value)
        display[_heading(value)] = _interval_column(frame, value, mark)
    display["Targets"] = frame["n_targets"].astype(str)
    title = "Attacks: leakage that each attack finds in each technique's final models"
    return Table(title, frame, display, _notes(study))


def _by_technique_and_attack(study: StudyResults, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the config's order of techniques, then of attacks."""
    order = {name: place for place, name in enumerate(study.techniques)}
    attacks = {name: place for place, name in enumerate(study.attacks)}
    keys = pd.DataFrame({"t": frame["technique"].map(order), "a": frame["attack"].map(attacks)})
    return frame.loc[keys.sort_values(["t", "a"]).index].reset_index(drop=True)


def decisions(study: StudyResults) -> Table:
    """Return, per attack and technique, what a named member is worth: beyond the ROC curve."""
    rows = study.rows(study.metrics, protocol=study.protocol)
    rows = rows[rows["technique"] == rows["attacker_technique"]]
    rows = rows[rows["checkpoint"] == rows["technique"].map(study.final)]
    values = [name for name in _DECISIONS if name in rows]
    frame = study.summarise(rows, values, ["attack", "technique", "checkpoint"])
    frame = _by_technique_and_attack(study, frame)
    display = pd.DataFrame({"Technique": frame["technique"], "Attack": frame["attack"]})
    for value in values:
        mark = _dagger(study, "tpr_at_fpr_0.001") if value.startswith("ppv") else ""
        display[_DECISIONS[value]] = _interval_column(frame, value, mark)
    display["Targets"] = frame["n_targets"].astype(str)
    notes = (
        *_notes(study),
        "At the threshold: set on shadow models, without the target's ground truth; precision is "
        "over the targets of which the attack names somebody. Bound: at the threshold that the "
        "target's own ground truth favours, which no attacker has.",
        "PPV: positive predictive value at 0.1% FPR, the share of members among those named, where "
        "that share of all candidates are members; false positives at the rate expected of new "
        f"non-members, so that an attack that knows nothing has the prior. {DAGGER} Less than one "
        "non-member of a target: not resolved.",
    )
    return Table("Decisions: what naming a sample a member is worth", frame, display, notes)


def claims_table(study: StudyResults) -> Table:
    """Return one row per claim of the paper with effect size, interval and verdict."""
    found = claims.evaluate(study)
    frame = pd.DataFrame([claim.as_row() for claim in found])
    display = pd.DataFrame(
        {
            "Claim": [claim.statement for claim in found],
            "Subject": [claim.subject for claim in found],
            "Effect": [claim.effect for claim in found],
            "Estimate": [claim.estimate_text() for claim in found],
            "No effect at": [f"{claim.no_effect:g}" for claim in found],
            "Verdict": [claim.verdict for claim in found],
            "In words": [claim.text for claim in found],
        }
    )
    notes = (
        f"Brackets: {100 * study.confidence:g}% interval of the effect, bootstrap over "
        f"{study.resampled}, the same for all that is compared; techniques are taken as given. "
        "Only the largest cut is corrected for the number of comparisons: of twenty other rows "
        "without any effect one would be expected to show one at 95%.",
        f"Protocol {study.protocol}; attack {study.headline_attack}.",
    )
    return Table("The paper's claims, tested on this study", frame, display, notes)


def stability(study: StudyResults) -> Table:
    """Return how far techniques, and training seeds, agree on which samples are exposed."""
    if study.vulnerability is None:
        raise InputError("table stability: tables/vulnerability.parquet was not given")
    frame = exposure.stability(study.vulnerability, study.confidence)
    display = pd.DataFrame({"First": frame["first"], "Second": frame["second"]})
    for name, heading in (("spearman", "Spearman's ρ"), ("jaccard", "Jaccard of the top")):
        ends = zip(*(frame[f"{name}{end}"] for end in _INTERVAL), strict=True)
        display[heading] = [number_interval(*row) for row in ends]
    display["Jaccard by chance"] = [f"{value:.3f}" for value in frame["jaccard_chance"]]
    display["Top"] = frame["top"].astype(str)
    display["Samples"] = frame["n_samples"].astype(str)
    level = f"{100 * study.confidence:g}%"
    notes = (
        f"Samples in the order of their mean rank among non-members, attack "
        f"{study.headline_attack}, final models. Top: the {100 * exposure.TOP:g}% most exposed.",
        f"Brackets: {level} interval over samples, the trained models given; of Spearman's ρ by "
        "Bonett and Wright, of the Jaccard index from the binomial interval of the overlap.",
        "Two halves of a technique's models agree as far as their number allows: techniques that "
        "agree as much expose the same samples.",
    )
    return Table("Stability: are the same samples exposed?", frame, display, notes)


TABLES: dict[str, Callable[[StudyResults], Table]] = {
    "augmentation": augmentation,
    "early_stopping": early_stopping,
    "attack_comparison": attack_comparison,
    "decisions": decisions,
    "claims": claims_table,
    "stability": stability,
}
"""Name of the table -> function that makes it."""


def build(name: str, study: StudyResults) -> Table:
    """Return the table ``name`` of a study."""
    if name not in TABLES:
        raise InputError(f"table {name}: unknown; tables are {', '.join(TABLES)}")
    return TABLES[name](study)


def _leakage(study: StudyResults, cells: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return accuracies, gaps and leakage of (technique, checkpoint) cells, in their order."""
    wanted = pd.MultiIndex.from_tuples(cells, names=MODEL_CELL)
    values = [*_GENERALIZATION, study.tpr, "auc"]
    frame = study.summarise(study.headline, values, MODEL_CELL).set_index(MODEL_CELL)
    if study.pooled is not None:
        pooled = study.knowing(study.pooled).set_index(MODEL_CELL)
        frame = frame.join(pooled[[f"pooled_{study.tpr}{end}" for end in _INTERVAL]])
    if FIXED_SPLIT in study.protocols and study.protocol != FIXED_SPLIT:
        fixed = study.rows(study.metrics, attack=study.headline_attack, protocol=FIXED_SPLIT)
        fixed = fixed[fixed["technique"] == fixed["attacker_technique"]]
        other = study.summarise(fixed, [study.tpr], MODEL_CELL).set_index(MODEL_CELL)
        names = {f"{study.tpr}{end}": f"fixed_split_{study.tpr}{end}" for end in _INTERVAL}
        frame = frame.join(other.rename(columns=names)[list(names.values())])
    return frame.reindex([cell for cell in wanted if cell in frame.index]).reset_index()


def _with_paper(
    study: StudyResults, frame: pd.DataFrame, rows: Sequence[reference.PaperRow | None]
) -> pd.DataFrame:
    """Add the paper's numbers where the dataset is the paper's and a row has a counterpart."""
    if study.dataset != reference.DATASET or not any(rows):
        return frame
    frame = frame.copy()
    for name in ("train_accuracy", "test_accuracy", "tpr"):
        frame[f"paper_{name}"] = [getattr(row, name) if row else np.nan for row in rows]
    return frame


def _display_leakage(
    study: StudyResults, frame: pd.DataFrame, key: str, heading: str
) -> pd.DataFrame:
    """Return the augmentation or the early-stopping table as text."""
    labels = [str(name) for name in frame[key]]
    if "epoch" in frame:
        best = (frame["checkpoint"] == BEST).to_numpy()
        epochs = zip(best, frame["epoch"], strict=True)
        labels = [f"best (mean {epoch})" if is_best else str(epoch) for is_best, epoch in epochs]
    display = pd.DataFrame({heading: labels})
    for value in _ACCURACIES:
        display[_heading(value)] = _interval_column(frame, value)
    losses = zip(*(frame[f"loss_gap{end}"] for end in _INTERVAL), strict=True)
    display[_heading("loss_gap")] = [number_interval(*loss) for loss in losses]
    mark = _dagger(study, study.tpr)
    display[_heading(study.tpr)] = _interval_column(frame, study.tpr, mark)
    pooled = f"pooled_{study.tpr}"
    if pooled in frame:
        display[f"Pooled {_heading(study.tpr)}"] = _interval_column(frame, pooled)
    fixed = f"fixed_split_{study.tpr}"
    if fixed in frame:
        display[f"{_heading(study.tpr)}, fixed split"] = _interval_column(frame, fixed, mark)
    if "paper_tpr" in frame:
        for name, label in (
            ("train_accuracy", "Paper: train acc. %"),
            ("test_accuracy", "Paper: test acc. %"),
            ("tpr", "Paper: TPR@0.1%"),
        ):
            display[label] = [percent(value) for value in frame[f"paper_{name}"]]
    display["Targets"] = frame["n_targets"].astype(str)
    return display


def _interval_column(frame: pd.DataFrame, value: str, mark: str = "") -> list[str]:
    ends = [frame[f"{value}{end}"] for end in _INTERVAL]
    return [percent_interval(*row) + mark for row in zip(*ends, strict=True)]


def _heading(value: str) -> str:
    """Return the heading of a column, with its unit."""
    if value.startswith("tpr_at_fpr_"):
        return f"TPR@{100 * float(value.removeprefix('tpr_at_fpr_')):g}% (%)"
    return {
        "train_accuracy": "Train acc. (%)",
        "test_accuracy": "Test acc. (%)",
        "accuracy_gap": "Accuracy gap (points)",
        "loss_gap": "Loss gap (nats)",
        "auc": "AUC (%)",
        "balanced_accuracy": "Balanced acc. (%)",
    }[value]


def _dagger(study: StudyResults, value: str) -> str:
    """Return the mark of a rate below the resolution of one target."""
    if not value.startswith("tpr_at_fpr_"):
        return ""
    return DAGGER if float(value.removeprefix("tpr_at_fpr_")) < study.smallest_fpr else ""


def _notes(study: StudyResults) -> tuple[str, ...]:
    """Return the footnotes that every table has."""
    notes = [
        f"Brackets: {100 * study.confidence:g}% interval of the mean over targets, bootstrap over "
        f"{study.resampled}. Protocol {study.protocol}; attack {study.headline_attack} unless "
        "named.",
    ]
    if not study.resolved:
        notes.append(
            f"{DAGGER} Not resolved: {100 * study.headline_fpr:g}% of the non-members of one "
            "target is less than one sample, so this is the rate at zero false positives."
        )
    if (
        "shadow_selection" in study.metrics
        and (study.metrics["shadow_selection"] == EQUAL_NUMBERS).any()
    ):
        most = int(study.metrics["n_unscored"].max())
        notes.append(
            "The splits are not complementary pairs: for every sample and target equal numbers of "
            "IN and OUT models were used, chosen without the target's membership"
            + (f"; up to {most} samples of a target have fewer and no score." if most else ".")
        )
    return tuple(notes)


def _leakage_notes(study: StudyResults, frame: pd.DataFrame) -> tuple[str, ...]:
    notes = _notes(study)
    if study.pooled is not None:
        notes = (*notes, "Pooled: one threshold for the scores of all targets together.")
    if "paper_tpr" not in frame:
        return notes
    return (*notes, f"Paper: {reference.SOURCE}, fixed split, without intervals.")


# --- formats -------------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """Return the plain numbers as CSV."""
    buffer = io.StringIO()
    table.frame.to_csv(buffer, index=False, float_format="%.6g", lineterminator="\n")
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Return the table as a Markdown pipe table with title and footnotes."""
    columns = [str(name) for name in table.display.columns]
    lines = [f"## {table.title}", "", "| " + " | ".join(map(_markdown, columns)) + " |"]
    lines.append("| " + " | ".join("---" for _ in columns) + " |")
    lines += [
        "| " + " | ".join(_markdown(str(cell)) for cell in row) + " |"
        for row in table.display.itertuples(index=False)
    ]
    for note in table.footnotes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def to_latex(table: Table, label: str) -> str:
    """Return the table as a LaTeX float, made smaller where it would leave the page."""
    columns = [str(name) for name in table.display.columns]
    body = [
        " & ".join(_latex(str(cell)) for cell in row) + r" \\"
        for row in table.display.itertuples(index=False)
    ]
    lines = [
        r"% needs \usepackage{booktabs} and \usepackage{adjustbox}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_latex(table.title)}.}}",
        rf"\label{{tab:{label}}}",
        r"\begin{adjustbox}{max width=\linewidth, max totalheight=0.8\textheight}",
        rf"\begin{{tabular}}{{{''.join(map(_latex_column, columns, _longest(table.display)))}}}",
        r"\toprule",
        " & ".join(_latex(name) for name in columns) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        *(rf"\par\footnotesize {_latex(note)}" for note in table.footnotes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _longest(display: pd.DataFrame) -> list[int]:
    """Return the length of the longest cell of each column, heading left out."""
    return [max([len(str(cell)) for cell in display[name]], default=0) for name in display]


def _latex_column(heading: str, longest: int) -> str:
    """Return the type of a column; text that would make it very wide is broken into lines."""
    return "l" if max(len(heading), longest) <= _WIDEST else r"p{5cm}"


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.45 system-ui, sans-serif; color: #1b1b1b; margin: 1.5rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .6rem; }}
th, td {{ padding: .3rem .8rem; text-align: left; vertical-align: top; }}
th {{ border-bottom: 2px solid #1b1b1b; }} td {{ border-bottom: 1px solid #ddd; }}
p {{ color: #555; max-width: 60rem; }}
</style></head><body>
<table><caption>{title}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody></table>
{notes}
</body></html>
"""


def to_html(table: Table) -> str:
    """Return the table as a page of its own, without scripts or outside files, for the report."""
    columns = [str(name) for name in table.display.columns]
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in table.display.itertuples(index=False)
    )
    return _PAGE.format(
        title=html.escape(table.title),
        head="".join(f"<th>{html.escape(name)}</th>" for name in columns),
        body=body,
        notes="\n".join(f"<p>{html.escape(note)}</p>" for note in table.footnotes),
    )


def _markdown(text: str) -> str:
    return text.replace("|", r"\|").replace("_", r"\_")


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    DAGGER: r"$^\dagger$",
    _MISSING: "--",
    "ρ": r"$\rho$",
    "²": r"$^2$",
    "|": r"$|$",
    "<": r"$<$",
    ">": r"$>$",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)

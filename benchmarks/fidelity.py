"""Runs our attacks side by side with their authors' public code on the same logits.

    python benchmarks/fidelity.py --tf-privacy DIR --privacy-meter DIR ...

Each DIR is a public repository, checked out at the commit that docs/fidelity.md names; what is
not given is left out. Prints the table of that page. The logits are drawn (seeded): samples of
different difficulty, members with a surer answer, more so for some samples than for others. With
``--only WORD`` only comparisons whose function's name has the word are made.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from side_by_side import likelihood, methods
from side_by_side.study import CLASSES, PAIRS, QUERIES, RESERVE, SAMPLES, Row, Study, make_study

Comparison = Callable[[Study, Path], Iterator[Row]]

COMPARISONS: dict[str, list[Comparison]] = {
    "tf-privacy": [likelihood.lira, methods.offsets, methods.loss_of_google],
    "rmia-2024": [likelihood.rmia_2024, likelihood.population_attack],
    "privacy-meter": [likelihood.privacy_meter],
    "enhanced-mia": [likelihood.reference_attack],
    "mi-evaluation": [methods.thresholds],
    "calibration": [methods.calibration],
    "quantile-mia": [methods.quantile_regression],
    "evaluating-dpml": [methods.merlin],
    "ml-leaks": [methods.ml_leaks],
    "label-only": [methods.labels_only],
}


def main() -> None:
    """Run the comparisons as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in COMPARISONS:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    parser.add_argument("--only", default="", metavar="WORD")
    arguments = vars(parser.parse_args())
    study = make_study()
    print(
        f"{2 * PAIRS} models (one the target, its twin left out), {SAMPLES} samples and {RESERVE} "
        f"more that no model was trained on, {CLASSES} classes, {QUERIES} queries\n"
    )
    print("| ours | public code | agreement (ours / public) | why it differs |")
    print("| --- | --- | --- | --- |")
    for name, comparisons in COMPARISONS.items():
        folder = arguments[name.replace("-", "_")]
        for comparison in comparisons if folder else ():
            if arguments["only"] in comparison.__name__:
                for row in comparison(study, folder):
                    print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()

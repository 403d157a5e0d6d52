"""Times every logits-only attack on one target of a CIFAR-sized pool.

    python benchmarks/attacks.py                      # 60,000 samples, 64 shadow models
    python benchmarks/attacks.py --reserve 0.167      # with a reserve of 10,000 samples

Defaults of every attack that needs logits alone, plus the variants that do more work. Reports
CPU and wall-clock seconds per attack, the sum, and the peak memory. With ``--thresholds`` the
calibration of thresholds on two shadow models is timed too, as a study's job does it.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from miagap.attacks import Signals, calibrated_thresholds, parse, score_targets
from miagap.attacks.registry import ATTACKS, Attack


def defaults(attack: Attack) -> dict[str, Any]:
    """Return the default of every parameter of an attack."""
    return {key: parameter.default for key, parameter in attack.parameters.items()}


LOGITS_ONLY = [
    name for name, attack in ATTACKS.items() if not attack.measurements(defaults(attack))
]
VARIANTS: list[dict[str, Any]] = [{"method": method} for method in LOGITS_ONLY] + [
    {"method": "lira", "online": False},
    {"method": "lira", "statistic": "median"},
    {"method": "lira", "variance": "fixed"},
    {"method": "lira", "online": False, "variance": "fixed"},
    {"method": "rmia", "online": False},
    *[
        {"method": "threshold", "statistic": statistic, "scope": scope}
        for statistic in ("correctness", "loss", "confidence", "entropy", "modified_entropy")
        for scope in ("global", "class")
        if (statistic, scope) != ("loss", "global")
    ],
]


def make_signals(
    models: int, samples: int, classes: int, reserve_share: float
) -> tuple[Signals, np.ndarray]:
    """Return random answers of paired models, and the reserve."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, samples)
    rows = np.arange(samples)
    reserve = rng.random(samples) < reserve_share
    member = np.empty((models, samples), dtype=bool)
    logits = np.empty((models, samples, classes), dtype=np.float32)
    phi = np.empty((models, 1, samples))
    loss = np.empty((models, samples))
    for model in range(models):
        drawn = rng.random(samples) < 0.5 if model % 2 == 0 else ~member[model - 1]
        member[model] = drawn & ~reserve
        logits[model] = rng.standard_normal((samples, classes), dtype=np.float32)
        logits[model, rows, labels] += 4 + member[model]
        wide = logits[model].astype(np.float64)
        own = wide[rows, labels]
        wide[rows, labels] = -np.inf
        phi[model, 0] = own - np.logaddexp.reduce(wide, axis=1)
        loss[model] = np.logaddexp(0, -phi[model, 0])
    numbers = np.arange(models, dtype=np.int64)
    return Signals(phi, loss, member, numbers, 0 * numbers, labels, logits), reserve


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--reserve", type=float, default=0.0)
    parser.add_argument("--thresholds", action="store_true", help="set thresholds too")
    arguments = parser.parse_args()
    signals, reserve = make_signals(
        arguments.shadows + 2, arguments.samples, arguments.classes, arguments.reserve
    )
    target = signals.take([0])
    cpu, wall = 0.0, 0.0
    for settings in VARIANTS:
        spec = parse("attack", settings)
        start = time.process_time(), time.perf_counter()
        score_targets(target, signals, spec, reserve, 0)
        if arguments.thresholds:
            calibrated_thresholds(target, signals, spec, reserve, 0)
        own = time.process_time() - start[0], time.perf_counter() - start[1]
        cpu, wall = cpu + own[0], wall + own[1]
        name = " ".join(map(str, settings.values()))
        print(f"  {own[0]:7.2f} s CPU {own[1]:7.2f} s wall  {name}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {cpu:7.2f} s CPU {wall:7.2f} s wall  all {len(VARIANTS)}; peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()

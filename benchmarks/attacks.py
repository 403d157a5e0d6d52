"""Times every logits-only attack on one target of a CIFAR-sized pool.

    python benchmarks/attacks.py                      # 60,000 samples, 64 shadow models
    python benchmarks/attacks.py --reserve 0.167      # with a reserve of 10,000 samples

Defaults of every attack, plus the variants that do more work. Reports seconds per attack, the
sum, and the peak memory.
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

from miagap.attacks import Signals, parse, score_targets
from miagap.attacks.registry import ATTACKS

VARIANTS: list[dict[str, Any]] = [{"method": method} for method in ATTACKS] + [
    {"method": "lira", "online": False},
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
    arguments = parser.parse_args()
    signals, reserve = make_signals(
        arguments.shadows + 2, arguments.samples, arguments.classes, arguments.reserve
    )
    target = signals.take([0])
    total = 0.0
    for settings in VARIANTS:
        spec = parse("attack", settings)
        start = time.perf_counter()
        score_targets(target, signals, spec, reserve, 0)
        seconds = time.perf_counter() - start
        total += seconds
        print(f"  {seconds:7.2f} s  {' '.join(map(str, settings.values()))}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {total:7.2f} s  all {len(VARIANTS)}; peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()

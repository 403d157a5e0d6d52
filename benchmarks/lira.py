"""Times LiRA's four variants, leave-one-out over all models of a pool.

    python benchmarks/lira.py                                # 64 models, 20,000 samples
    python benchmarks/lira.py --models 256 --samples 60000   # the paper's size
    python benchmarks/lira.py --reference plot.py            # beside Google's public code

Reports seconds, peak memory, and the floor that memory bandwidth sets: the time to read all
phi once. With ``--reference`` the file (research/mi_lira_2021/plot.py of tensorflow/privacy,
not part of this project) is run once per target for a few targets; the time for all targets is
that many times more, as the code holds nothing over from one target to the next. Scores of
``compat: mi_lira_2021`` are compared with it on the way.
"""

from __future__ import annotations

import argparse
import ast
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from miagap.attacks import Signals, parse, score_targets

VARIANTS: dict[str, dict[str, Any]] = {
    "online": {"online": True, "variance": "per_example"},
    "online, fixed variance": {"online": True, "variance": "fixed"},
    "offline": {"online": False, "variance": "per_example"},
    "offline, fixed variance": {"online": False, "variance": "fixed"},
}


def make_signals(models: int, queries: int, samples: int) -> Signals:
    """Return random phi of paired models in which members stand out a little."""
    rng = np.random.default_rng(0)
    member = np.empty((models, samples), dtype=bool)
    phi = np.empty((models, queries, samples))
    for model in range(models):
        member[model] = rng.random(samples) < 0.5 if model % 2 == 0 else ~member[model - 1]
        phi[model] = 3.0 + 2.0 * rng.standard_normal((queries, samples)) + member[model]
    return Signals(
        phi=phi,
        loss=np.zeros((models, samples)),
        member=member,
        split=np.arange(models, dtype=np.int64),
        seed=np.zeros(models, dtype=np.int64),
        labels=np.zeros(samples, dtype=np.int64),
    )


def read_seconds(phi: np.ndarray) -> float:
    """Return the seconds that reading all of phi takes, at the measured bandwidth of a sum."""
    block = np.ascontiguousarray(phi.reshape(-1)[: 1 << 24])
    best = min(_seconds(block.sum) for _ in range(5))
    return best * phi.nbytes / block.nbytes


def _seconds(function: Callable[[], Any]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_gib() -> float:
    """Return the peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def time_ours(signals: Signals) -> float:
    """Time all four variants over all targets, print each, return the total."""
    reserve = np.zeros(signals.samples, dtype=bool)
    total = 0.0
    for compat in ("none", "mi_lira_2021"):
        subtotal = 0.0
        for name, settings in VARIANTS.items():
            spec = parse("lira", {"method": "lira", "compat": compat, **settings})
            seconds = _seconds(partial(score_targets, signals, signals, spec, reserve, 0))
            subtotal += seconds
            print(f"  {name:24} compat {compat:13} {seconds:8.2f} s", flush=True)
        print(f"  {'all four':24} compat {compat:13} {subtotal:8.2f} s")
        total = max(total, subtotal)
    return total


def load_reference(path: Path) -> dict[str, Any]:
    """Return the two scoring functions of the public script, without running its plots."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wanted = {"generate_ours", "generate_ours_offline"}
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in wanted]
    names: dict[str, Any] = {"np": np, "scipy": scipy}
    exec(compile(tree, str(path), "exec"), names)
    return names


def time_reference(signals: Signals, path: Path, targets: int) -> float:
    """Return the seconds the public code needs for all targets, from some of them."""
    functions = load_reference(path)
    reserve = np.zeros(signals.samples, dtype=bool)
    scores = np.ascontiguousarray(signals.phi.swapaxes(1, 2))  # the layout it works on
    total, worst = 0.0, 0.0
    for target in range(targets):
        kept = signals.pair != signals.pair[target]
        keep, shadow = signals.member[kept], scores[kept]
        for settings in VARIANTS.values():
            name = "generate_ours" if settings["online"] else "generate_ours_offline"
            start = time.perf_counter()
            found, _ = functions[name](
                keep,
                shadow,
                signals.member[target : target + 1],
                scores[target : target + 1],
                fix_variance=settings["variance"] == "fixed",
            )
            total += time.perf_counter() - start
            spec = parse("lira", {"method": "lira", "compat": "mi_lira_2021", **settings})
            ours = score_targets(signals.take([target]), signals, spec, reserve, 0)[0]
            # The public code's scores are lower for members.
            difference = np.abs(ours + np.asarray(found)) / np.maximum(1.0, np.abs(ours))
            worst = max(worst, float(difference.max()))
    print(f"  largest relative difference of compat scores: {worst:.1e}")
    return total / targets * signals.models


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--reference", type=Path, help="path to mi_lira_2021's plot.py")
    parser.add_argument("--targets", type=int, default=2, help="targets of the reference run")
    arguments = parser.parse_args()
    signals = make_signals(arguments.models, arguments.queries, arguments.samples)
    print(
        f"{arguments.models} models, {arguments.queries} queries, {arguments.samples} samples: "
        f"phi is {signals.phi.nbytes / 2**30:.2f} GiB, memory {peak_gib():.2f} GiB before"
    )
    floor = 4 * read_seconds(signals.phi)
    ours = time_ours(signals)
    print(f"  peak memory {peak_gib():.2f} GiB")
    print(f"  floor (phi read once per variant) {floor:.2f} s: we are at {ours / floor:.0f} times")
    if arguments.reference:
        reference = time_reference(signals, arguments.reference, arguments.targets)
        print(
            f"  public code, {arguments.models} targets (extrapolated from {arguments.targets}): "
            f"{reference:.0f} s, {reference / ours:.0f} times ours"
        )


if __name__ == "__main__":
    main()

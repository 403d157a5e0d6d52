"""Times LiRA's variants, leave-one-out over all models of a pool, in one process.

    python benchmarks/lira.py                                # 64 models, 20,000 samples
    python benchmarks/lira.py --models 256 --samples 60000   # the paper's size
    python benchmarks/lira.py --models 256 --samples 60000 --queries 18 --variants paper
    python benchmarks/lira.py --unpaired                     # splits without complements
    python benchmarks/lira.py --reference plot.py            # beside Google's public code

The four variants are online and offline, each with a variance per sample and a fixed one:
``paper`` with means, ``median`` with medians, ``compat`` as the public code, ``all`` all of
them. Reports CPU and wall seconds, peak memory, and the floor that memory bandwidth sets: each
variant must read phi and membership and write one score for every model and sample, which at the
measured bandwidth of a copy takes that long.

With ``--reference`` the file (research/mi_lira_2021/plot.py of tensorflow/privacy, not part of
this project) is run once per target for a few targets; the time for all targets is that many
times more, as the code holds nothing over from one target to the next. Scores of
``compat: mi_lira_2021`` are compared with it on the way.
"""

from __future__ import annotations

import argparse
import ast
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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


FAMILIES: dict[str, dict[str, Any]] = {
    "paper": {},
    "median": {"statistic": "median"},
    "compat": {"compat": "mi_lira_2021"},
}
COPIED_BYTES = 64 << 20


@dataclass(frozen=True)
class Seconds:
    """CPU and wall-clock seconds."""

    cpu: float
    wall: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu + other.cpu, self.wall + other.wall)

    def __str__(self) -> str:
        return f"{self.cpu:8.2f} s CPU {self.wall:8.2f} s wall"


def make_signals(models: int, queries: int, samples: int, paired: bool) -> Signals:
    """Return random phi of models in which members stand out a little."""
    rng = np.random.default_rng(0)
    member = np.empty((models, samples), dtype=bool)
    phi = np.empty((models, queries, samples))
    for model in range(models):
        again = paired and model % 2 == 1
        member[model] = ~member[model - 1] if again else rng.random(samples) < 0.5
        phi[model] = 3.0 + 2.0 * rng.standard_normal((queries, samples)) + member[model]
    numbers = np.arange(models, dtype=np.int64)
    return Signals(
        phi=phi,
        loss=np.zeros((models, samples)),
        member=member,
        split=numbers,
        seed=np.zeros(models, dtype=np.int64),
        labels=np.zeros(samples, dtype=np.int64),
        pairs=None if paired else numbers,
    )


def copy_bandwidth() -> float:
    """Return the bytes that a copy reads and writes in a second."""
    source, target = np.ones((2, COPIED_BYTES // 8))
    best = min(measure(partial(np.copyto, target, source))[1].wall for _ in range(5))
    return 2 * COPIED_BYTES / best


def floor_seconds(signals: Signals, bandwidth: float) -> float:
    """Return the least seconds of one variant over all models, by what it reads and writes."""
    scores = 8 * signals.models * signals.samples
    return (signals.phi.nbytes + signals.member.nbytes + scores) / bandwidth


def measure(function: Callable[[], Any]) -> tuple[Any, Seconds]:
    """Return what a call returns, and its seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return result, Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def peak_gib() -> float:
    """Return the peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def time_ours(signals: Signals, family: str) -> Seconds:
    """Time the four variants of a family over all targets, print each, return the total."""
    reserve = np.zeros(signals.samples, dtype=bool)
    total = Seconds(0.0, 0.0)
    for name, settings in VARIANTS.items():
        spec = parse("lira", {"method": "lira", **settings, **FAMILIES[family]})
        _, seconds = measure(partial(score_targets, signals, signals, spec, reserve, 0))
        total += seconds
        print(f"  {family:7} {name:24} {seconds}", flush=True)
    print(f"  {family:7} {'all four':24} {total}; peak memory {peak_gib():.2f} GiB", flush=True)
    return total


def load_reference(path: Path) -> dict[str, Any]:
    """Return the two scoring functions of the public script, without running its plots."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wanted = {"generate_ours", "generate_ours_offline"}
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in wanted]
    names: dict[str, Any] = {"np": np, "scipy": scipy}
    exec(compile(tree, str(path), "exec"), names)
    return names


def time_reference(signals: Signals, path: Path, targets: int) -> Seconds:
    """Return the seconds the public code needs for all targets, from some of them."""
    functions = load_reference(path)
    reserve = np.zeros(signals.samples, dtype=bool)
    scores = np.ascontiguousarray(signals.phi.swapaxes(1, 2))  # the layout it works on
    total, worst = Seconds(0.0, 0.0), 0.0
    for target in range(targets):
        kept = signals.pair != signals.pair[target]
        keep, shadow = signals.member[kept], scores[kept]
        for settings in VARIANTS.values():
            name = "generate_ours" if settings["online"] else "generate_ours_offline"
            own = slice(target, target + 1)
            given = (keep, shadow, signals.member[own], scores[own])
            fixed = settings["variance"] == "fixed"
            found, seconds = measure(partial(functions[name], *given, fix_variance=fixed))
            total += seconds
            spec = parse("lira", {"method": "lira", "compat": "mi_lira_2021", **settings})
            ours = score_targets(signals.take([target]), signals, spec, reserve, 0)[0]
            # The public code's scores are lower for members.
            difference = np.abs(ours + np.asarray(found[0])) / np.maximum(1.0, np.abs(ours))
            worst = max(worst, float(np.nanmax(difference)))
    print(f"  largest relative difference of compat scores: {worst:.1e}")
    times = signals.models / targets
    return Seconds(total.cpu * times, total.wall * times)


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--variants", choices=[*FAMILIES, "all"], default="all")
    parser.add_argument("--unpaired", action="store_true", help="splits without complements")
    parser.add_argument("--reference", type=Path, help="path to mi_lira_2021's plot.py")
    parser.add_argument("--targets", type=int, default=2, help="targets of the reference run")
    arguments = parser.parse_args()
    bandwidth = copy_bandwidth()
    signals = make_signals(
        arguments.models, arguments.queries, arguments.samples, not arguments.unpaired
    )
    print(
        f"{arguments.models} models, {arguments.queries} queries, {arguments.samples} samples, "
        f"{'unpaired' if arguments.unpaired else 'paired'} splits: phi is "
        f"{signals.phi.nbytes / 2**30:.2f} GiB, memory {peak_gib():.2f} GiB before"
    )
    floor = len(VARIANTS) * floor_seconds(signals, bandwidth)
    families = list(FAMILIES) if arguments.variants == "all" else [arguments.variants]
    found = {family: time_ours(signals, family) for family in families}
    for family, seconds in found.items():
        print(
            f"  {family:7} floor of four variants {floor:.2f} s (a copy reads and writes "
            f"{bandwidth / 1e9:.1f} GB/s): we are at {seconds.cpu / floor:.0f} times"
        )
    if arguments.reference:
        public = time_reference(signals, arguments.reference, arguments.targets)
        print(
            f"  public code, {arguments.models} targets (extrapolated from {arguments.targets}): "
            f"{public}"
        )
        for family, seconds in found.items():
            print(f"  {public.cpu / seconds.cpu:.0f} times the CPU seconds of {family}")


if __name__ == "__main__":
    main()

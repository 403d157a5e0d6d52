"""LiRA, RMIA and Ye et al. beside public code."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from scipy.stats import norm, trim_mean

from side_by_side.public_code import load
from side_by_side.study import QUERIES, TARGET, Row, Study, alike, equal, softmax

PLOT = Path("research/mi_lira_2021/plot.py")
ADVANCED = Path(
    "tensorflow_privacy/privacy/privacy_tests/membership_inference_attack/advanced_mia.py"
)
RMIA = Path("research/2024_rmia")
METER = Path("modules/mia/attacks/rmia.py")
ENHANCED = Path("research/2022_enhanced_mia/plot_attack_via_reference_or_distill.py")


def sides(study: Study, values: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Split values (M, n, ...) of the shadow models by membership, for each attacked sample."""
    member, kept = study.signals.member[study.kept], values[study.kept]
    inside = [kept[member[:, x], x] for x in study.used]
    outside = [kept[~member[:, x], x] for x in study.used]
    return inside, outside


def lira(study: Study, folder: Path) -> Iterator[Row]:
    """Compare with Google's research script and with tensorflow_privacy."""
    names = {"generate_ours", "generate_ours_offline"}
    script = load(folder / PLOT, names, {"np": np, "scipy": scipy})
    phi = study.signals.phi.swapaxes(1, 2)[:, study.used]
    member = study.signals.member[:, study.used]
    for online, fixed in ((True, False), (True, True), (False, False), (False, True)):
        name = "generate_ours" if online else "generate_ours_offline"
        keep, shadow, target = member[study.kept], phi[study.kept], phi[[TARGET]]
        found, _ = script[name](keep, shadow, member[[TARGET]], target, fix_variance=fixed)
        settings = {"online": online, "variance": "fixed" if fixed else "per_example"}
        reason = "median there, mean here; one deviation per query there"
        reason += "; fixed: about one common mean there" * fixed
        reason += "" if online else "; log density there, one-sided test here"
        text = f"`lira`, {'online' if online else 'offline'}, variance {settings['variance']}"
        public = f"plot.py `{name}`"
        ours = study.score(method="lira", compat="mi_lira_2021", **settings)[study.used]
        yield Row(f"{text}, compat mi_lira_2021", public, equal(-ours, np.array(found)), "rounding")
        ours = study.score(method="lira", **settings)[study.used]
        yield Row(text, public, alike(study, ours, -np.array(found)), reason)
    yield from lira_of_library(study, folder)


def lira_of_library(study: Study, folder: Path) -> Iterator[Row]:
    """Compare with tensorflow_privacy's compute_score_lira, of one query and of two."""
    given = {"np": np, "scipy": scipy, "functools": functools}
    names = {"compute_score_lira", "replace_nan_with_column_mean"}
    library = load(folder / ADVANCED, names, given)["compute_score_lira"]
    phi = study.signals.phi.swapaxes(1, 2)
    inside, outside = sides(study, phi)
    for fixed in (False, True):
        found = library(
            phi[TARGET, study.used],
            inside,
            outside,
            option="both",
            fix_variance=fixed,
            median_or_mean="mean",
        )
        # With one deviation for all samples the library has one for all queries too.
        variance, queries = ("fixed", "spherical") if fixed else ("per_example", "independent")
        ours = study.score(method="lira", variance=variance, queries=queries)[study.used]
        yield Row(
            f"`lira`, online, variance {variance}, queries {queries}",
            "advanced_mia.py `compute_score_lira`, mean",
            equal(-ours, found),
            "rounding",
        )


def scripts_of_rmia(folder: Path) -> dict[str, Any]:
    """Return the functions of the paper's scripts, with what they need."""
    given = {"np": np, "torch": torch, "norm": norm, "tqdm": lambda steps, **_: steps}
    given["trim_mean"] = lambda a, **kw: torch.from_numpy(trim_mean(np.asarray(a), **kw))
    found = load(folder / RMIA / "main.py", {"aggregate_signals", "str2bool"}, given)
    names = {"convert_signals", "get_taylor", "factorial"}
    return found | load(folder / RMIA / "signals.py", names, given)


def rmia_signal(study: Study, convert: Any, metric: str, terms: int = 4) -> torch.Tensor:
    """Return p(x | model) by the paper's scripts, (M, n, Q)."""
    labels = torch.from_numpy(study.signals.labels)
    extra = {"taylor_m": 0.6, "taylor_n": terms}
    temperature = 1.0 if metric == "softmax" else 2.0
    found = torch.empty(study.logits.shape[:3], dtype=torch.float64)
    for model, query in np.ndindex(study.logits.shape[0], QUERIES):
        logits = torch.from_numpy(study.logits[model, :, query].astype(np.float64))
        found[model, :, query] = convert(logits, labels, metric, temperature, extra=extra)
    return found


def run_rmia_scripts(
    study: Study, aggregate: Any, signal: torch.Tensor, *, online: bool, queries: int
) -> np.ndarray:
    """Return the scores of the paper's scripts, with the reserve as population: (n,).

    The scripts want as many IN as OUT models of every sample. No model was trained on the
    population: the first half of the models stands for OUT, the second for IN.
    """
    keep = study.signals.member[study.kept].copy()
    keep[:, study.reserve] = (np.arange(len(keep)) >= len(keep) // 2)[:, None]
    audit = {
        "num_ref_models": len(keep),
        "nb_augmentation": queries,
        "offline": str(not online),
        "offline_a": 0.3,
        "augmentation": "augmented",
        "proportiontocut": 0.2,
        "gamma": 2.0,
        "top_k": -1,
    }
    prediction, _ = aggregate(
        "sm_taylor_softmax_relative",
        torch.from_numpy(study.signals.member[TARGET]),
        signal[TARGET, :, :queries],
        np.arange(study.signals.samples),
        torch.from_numpy(keep),
        signal[study.kept][:, :, :queries],
        torch.from_numpy(study.reserve),
        {"audit": audit},
    )
    return -np.asarray(prediction).ravel()


def rmia_2024(study: Study, folder: Path) -> Iterator[Row]:
    """Compare with the paper's scripts."""
    public = scripts_of_rmia(folder)
    metrics = {"softmax": "softmax", "sm_taylor": "taylor-soft-margin"}
    signals = {
        ours: rmia_signal(study, public["convert_signals"], theirs)
        for ours, theirs in metrics.items()
    }
    cases = [(o, s, 1) for o in (True, False) for s in metrics] + [(True, "softmax", 2)]
    for online, signal, queries in cases:
        found = run_rmia_scripts(
            study, public["aggregate_signals"], signals[signal], online=online, queries=queries
        )[study.used]
        settings = {"method": "rmia", "online": online, "signal": signal}
        settings["queries"] = "majority" if queries > 1 else "first"
        text = f"`rmia`, {'online' if online else 'offline'}, signal {signal}"
        text += ", queries majority" if queries > 1 else ""
        script = "2024_rmia/main.py `aggregate_signals`"
        ours = study.score(compat="rmia_2024", **settings)[study.used]
        yield Row(f"{text}, compat rmia_2024", script, equal(ours, found), "float32 there")
        ours = study.score(**settings)[study.used]
        reason = "trimmed mean of p(x | model) there, mean here"
        reason += "; p(z) online is a mean over OUT there, the offline estimate here" * online
        reason += "; the polynomial's degree" * (signal == "sm_taylor")
        yield Row(text, script, alike(study, ours, found), reason)
    yield taylor_row(study, public["convert_signals"])


def taylor_row(study: Study, convert: Any) -> Row:
    """Compare the Taylor softmax at the degree that the paper's order has."""
    from miagap.attacks.rmia import sm_taylor

    found = rmia_signal(study, convert, "taylor-soft-margin", terms=5)[TARGET, :, 0].numpy()
    assert study.signals.logits is not None
    ours = sm_taylor(study.signals.logits[TARGET], study.signals.labels)
    text = "2024_rmia/signals.py `convert_signals`, taylor_n 5"
    reason = "rounding; taylor_n is the number of terms there, one more than the degree"
    return Row("`rmia`, p(x) of signal sm_taylor", text, equal(ours, found), reason)


def privacy_meter(study: Study, folder: Path) -> Iterator[Row]:
    """Compare with the current ml_privacy_meter."""
    names = {"run_rmia", "get_out_ref_signals"}
    public = load(folder / METER, names, {"np": np})["run_rmia"]
    rows = np.arange(study.signals.samples)
    p = softmax(study.logits[:, :, 0])[:, rows, study.signals.labels].T
    z, x, kept = study.reserve, study.used, study.kept
    member = study.signals.member.T[x][:, kept]
    found = public(p[x, TARGET], p[x][:, kept], member, p[z, TARGET], p[z][:, kept], 0.3)
    settings = {"method": "rmia", "online": False, "gamma": 1.0}
    ours = study.score(compat="privacy_meter", **settings)[x]
    text = "`rmia`, offline, gamma 1"
    script = "modules/mia/attacks/rmia.py `run_rmia`"
    yield Row(f"{text}, compat privacy_meter", script, equal(ours, found), "")
    reason = "p(z) over the models with the largest half of p(z) there, over all here"
    yield Row(text, script, alike(study, study.score(**settings)[x], found), reason)
    settings["gamma"] = 2.0
    reason += "; gamma"
    yield Row(
        "`rmia`, offline (gamma 2)", script, alike(study, study.score(**settings)[x], found), reason
    )


def reference_attack(study: Study, folder: Path) -> Iterator[Row]:
    """Compare attack R (and D, which differs in its reference models) with the paper's scripts."""
    stem = "generate_reference_or_distill_"
    kinds = {
        "linear": "linear",
        "gaussian": "logit",
        "minimum": "min_linear_logit",
        "mean": "mean_linear_logit",
    }
    names = {stem + kind for kind in kinds.values()}
    public = load(folder / ENHANCED, names, {"np": np, "scipy": scipy, "print": lambda *_: None})
    _, outside = sides(study, study.signals.loss)
    own = study.signals.loss[[TARGET]][:, study.used]
    for smoothing, kind in kinds.items():
        found, _ = public[stem + kind](np.stack(outside, axis=1), study.member[None], own)
        ours = np.exp(-study.score(method="ye_reference", smoothing=smoothing)[study.used])
        reason = "rounding; log(p / (1 - p)) is formed from the loss there"
        yield Row(
            f"`ye_reference`, smoothing {smoothing}: alpha",
            f"2022_enhanced_mia `{stem}{kind}`",
            equal(ours, np.asarray(found)),
            reason if smoothing != "linear" else "rounding",
        )


def population_attack(study: Study, folder: Path) -> Iterator[Row]:
    """Compare attack P with its form in the scripts of RMIA."""
    aggregate = scripts_of_rmia(folder)["aggregate_signals"]
    phi = torch.from_numpy(study.signals.phi[:, :1].swapaxes(1, 2).copy())
    keep = torch.from_numpy(np.arange(len(study.kept)) % 2 == 0)
    found, _ = aggregate(
        "loss_population",
        torch.from_numpy(study.signals.member[TARGET]),
        phi[TARGET],
        study.used,
        keep[:, None].expand(-1, study.signals.samples),
        phi[study.kept],
        torch.from_numpy(study.reserve),
        {"audit": {"num_ref_models": len(study.kept), "nb_augmentation": 1}},
    )
    ours = np.exp(-study.score(method="ye_population", smoothing="none")[study.used])
    found = np.asarray(found).ravel()
    some = found > 0
    yield Row(
        "`ye_population`, smoothing none: alpha",
        "2024_rmia/main.py `aggregate_signals`, loss_population",
        f"{equal(ours[some], found[some])} where alpha > 0 ({some.mean():.1%})",
        "alpha = 0 is half of the smallest share here",
    )

"""Thresholds, offsets, learned quantiles, noise, networks and labels beside public code."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.special
import torch

from miagap.attacks import networks, regression, threshold
from miagap.device_pool import place
from miagap.measurements import merlin as merlin_module
from miagap.measurements.augmented import shifts
from miagap.measurements.subject import Subject
from miagap.numerics import Numerics
from side_by_side.likelihood import ADVANCED, PLOT, sides
from side_by_side.public_code import load
from side_by_side.study import CLASSES, TARGET, Row, Study, alike, equal, softmax

SONG = Path("membership_inference_attacks.py")
CALIBRATION = Path("attacks/privacy_attacks.py")
QUANTILES = Path("image_QMIA/train_utils.py")
SINGLE = 500
NUMERICS = Numerics(torch.device("cpu"), "float32")


def thresholds(study: Study, folder: Path) -> Iterator[Row]:
    """Compare statistics and class thresholds with the code of Song & Mittal."""
    signals = study.signals
    public = song(study, folder)
    member = study.member
    for name, function in (
        ("correctness", threshold.correctness),
        ("confidence", threshold.confidence),
        ("entropy", threshold.negative_entropy),
        ("modified_entropy", threshold.negative_modified_entropy),
    ):
        key = {"correctness": "corr", "confidence": "conf", "entropy": "entr"}.get(name, "m_entr")
        sign = -1.0 if key.endswith("entr") else 1.0
        found = np.empty(member.size)
        found[member] = sign * getattr(public, f"t_tr_{key}")
        found[~member] = sign * getattr(public, f"t_te_{key}")
        ours = function(signals, TARGET)[study.used]
        reason = "1 - p is rounded there" if name == "modified_entropy" else "rounding"
        text = f"`threshold`, statistic {name}"
        yield Row(text, f"`black_box_benchmarks`, {key}", equal(ours, found), reason)
        if name != "correctness":
            yield class_row(study, public, name, key, sign * found)


def song(study: Study, folder: Path) -> Any:
    """Return the public object with the answers of shadow models and target."""
    benchmarks = load(folder / SONG, {"black_box_benchmarks"}, {"np": np})["black_box_benchmarks"]
    p = softmax(study.logits[:, :, 0])[:, study.used]
    labels = study.signals.labels[study.used]
    member = study.signals.member[:, study.used]
    shadow, kept = p[study.kept], member[study.kept]
    tiled = np.broadcast_to(labels, kept.shape)
    own = member[TARGET]
    return benchmarks(
        (shadow[kept], tiled[kept]),
        (shadow[~kept], tiled[~kept]),
        (p[TARGET, own], labels[own]),
        (p[TARGET, ~own], labels[~own]),
        CLASSES,
    )


def class_row(study: Study, public: Any, name: str, key: str, found: np.ndarray) -> Row:
    """Compare the decisions at each class's threshold, set on the shadow models."""
    sign = -1.0 if key.endswith("entr") else 1.0
    inside, outside = (sign * getattr(public, f"s_{side}_{key}") for side in ("tr", "te"))
    decided = np.empty(study.member.size, dtype=bool)
    labels = study.signals.labels[study.used]
    for label in range(CLASSES):
        of = (public.s_tr_labels == label, public.s_te_labels == label)
        least = public._thre_setting(inside[of[0]], outside[of[1]])
        decided[labels == label] = sign * found[labels == label] >= least
    ours = study.score(method="threshold", statistic=name, scope="class")[study.used] > 0
    accuracy = [
        (one[study.member].mean() + 1 - one[~study.member].mean()) / 2 for one in (ours, decided)
    ]
    return Row(
        f"`threshold`, statistic {name}, scope class: decisions",
        "`_thre_setting` on the same shadow models",
        f"{(ours == decided).mean():.2%} the same; balanced accuracy {accuracy[0]:.4f} / "
        f"{accuracy[1]:.4f}",
        "the threshold is a shadow model's value there, the middle to the next one here",
    )


def loss_of_google(study: Study, folder: Path) -> Iterator[Row]:
    """Compare the loss and phi with what Google's code forms, and its global attack."""
    utilities = folder / "tensorflow_privacy/privacy/privacy_tests/utils.py"
    given = {"np": np, "special": scipy.special}
    log_loss = load(utilities, {"log_loss"}, given)["log_loss"]
    names = {"calculate_statistic", "convert_logit_to_prob"}
    given |= {"functools": functools, "log_loss": log_loss}
    statistic = load(folder / ADVANCED, names, given)["calculate_statistic"]
    assert study.signals.logits is not None
    logits = study.signals.logits[TARGET, study.used].astype(np.float64)
    labels = study.signals.labels[study.used]
    for option, ours in (("xe", study.signals.loss), ("logit", study.signals.phi[:, 0])):
        found = statistic(logits.copy(), labels, option=option)
        reason = "probabilities below 1e-8 are raised to it there" if option == "xe" else "rounding"
        text = "loss" if option == "xe" else "phi"
        yield Row(
            f"{text} of the target",
            f"advanced_mia.py `calculate_statistic`, {option}",
            equal(ours[TARGET, study.used], found),
            reason,
        )
    attack = load(folder / PLOT, {"generate_global"}, {"np": np})["generate_global"]
    phi = study.signals.phi.swapaxes(1, 2)[[TARGET]][:, study.used, :1]
    found, _ = attack(None, None, study.member[None], phi)
    ours = study.score(method="threshold", statistic="loss")[study.used]
    yield Row(
        "`threshold`, statistic loss",
        "plot.py `generate_global`, one query",
        alike(study, ours, -np.array(found)),
        "phi there, of which the loss is a function",
    )


def offsets(study: Study, folder: Path) -> Iterator[Row]:
    """Compare with tensorflow_privacy's score offsets."""
    names = {"compute_score_offset", "replace_nan_with_column_mean"}
    public = load(folder / ADVANCED, names, {"np": np, "functools": functools})
    for signal in ("loss", "phi"):
        value = -study.signals.loss if signal == "loss" else study.signals.phi[:, 0]
        inside, outside = ([one[:, None] for one in side] for side in sides(study, value))
        for method, option in (("sablayrolles", "both"), ("watson", "out")):
            ours = study.score(method=method, signal=signal)[study.used]
            for centre in ("mean", "median"):
                found = public["compute_score_offset"](
                    value[TARGET, study.used, None], inside, outside, option, centre
                )
                exact = centre == "mean"
                yield Row(
                    f"`{method}`, signal {signal}",
                    f"advanced_mia.py `compute_score_offset`, {option}, {centre}",
                    equal(ours, found) if exact else alike(study, ours, found),
                    "rounding" if exact else "median there (its default), mean here",
                )


def calibration(study: Study, folder: Path) -> Iterator[Row]:
    """Compare difficulty calibration with its authors' code, averaged over reference models."""
    given: dict[str, Any] = {"np": np, "torch": torch, "F": torch.nn.functional}
    ids = study.used[:SINGLE]
    labels = study.signals.labels
    given["get_dataset"] = lambda _: [(torch.tensor(float(x)), int(labels[x])) for x in ids]
    public = load(folder / CALIBRATION, {"get_calibrated_losses"}, given)["get_calibrated_losses"]
    logits = torch.from_numpy(study.logits[:, :, 0].astype(np.float64))
    out = [study.kept[~study.signals.member[study.kept, x]] for x in range(SINGLE)]
    found = np.zeros(SINGLE)
    with mock.patch.object(torch.Tensor, "cuda", lambda tensor, **_: tensor):
        for rank in range(len(out[0])):
            reference = torch.stack([logits[out[x][rank], x] for x in range(SINGLE)])
            found += public(
                mock.Mock(aug=False),
                lambda image: logits[TARGET, image.long()],
                lambda image, of=reference: of[image.long()],
                range(SINGLE),
                range(SINGLE),
            )
    ours = study.score(method="watson")[ids]
    yield Row(
        f"`watson` (first {SINGLE} samples)",
        "privacy_attacks.py `get_calibrated_losses`, mean over the OUT models",
        equal(ours, -found / len(out[0])),
        "rounding; one reference model there",
    )


def quantile_regression(study: Study, folder: Path) -> Iterator[Row]:
    """Compare the confidence, and the fit with a search for the least public loss."""
    given = {"torch": torch, "to_onehot": torch.nn.functional.one_hot}
    names = {"label_logit_and_hinge_scoring_fn", "gaussian_loss_fn"}
    public = load(folder / QUANTILES, names, given)
    assert study.signals.logits is not None
    logits = torch.from_numpy(study.signals.logits[TARGET].copy())
    labels = torch.from_numpy(study.signals.labels)
    model = mock.Mock(side_effect=lambda _: logits)
    found, _ = public["label_logit_and_hinge_scoring_fn"](None, labels, model)
    ours = regression.confidences(study.signals, "hinge")[TARGET]
    name = "train_utils.py `label_logit_and_hinge_scoring_fn`"
    reason = "rounding, float32 there"
    yield Row("`bertran`, the confidence", name, equal(ours, found.double().numpy()), reason)
    features, scores = fitted(study)
    weights = torch.zeros(2, features.shape[1], dtype=torch.float64, requires_grad=True)
    on = torch.from_numpy(features[study.reserve])
    value = torch.from_numpy(ours[study.reserve])
    search = torch.optim.LBFGS([weights], max_iter=2000, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        total = public["gaussian_loss_fn"](on @ weights.T, value, None).mean()
        total.backward()
        return total

    search.step(loss)
    mean, log_std = (features @ weights.detach().numpy().T).T
    theirs = ((ours - mean) / np.exp(log_std))[study.used]
    yield Row(
        "`bertran`",
        "the least `gaussian_loss_fn` of a model linear in our features",
        alike(study, scores[study.used], theirs),
        "a slight ridge penalty here; the paper's model is a network on images",
    )


def fitted(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Return our features (n, d) of the samples and our scores (n,)."""
    from miagap.attacks.problem import Problem, Task

    tasks = (Task(TARGET, (int(study.signals.pair[TARGET]),)),)
    problem = Problem("attack", study.signals, study.signals, tasks, study.reserve, 0)
    shadow = regression.confidences(study.signals, "hinge")
    features = regression.sample_features(problem, next(problem.groups()), shadow)
    return features, study.score(method="bertran")


class Wavy(torch.nn.Module):
    """A network of sines, whose loss has dents everywhere; its input is normalised images."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(0)
        self.inner = torch.randn(pixels, 50, generator=made) * 2
        self.outer = torch.randn(50, classes, generator=made) / 3

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.sin(images.flatten(1) @ self.inner) @ self.outer


def merlin(study: Study, folder: Path) -> Iterator[Row]:
    """Compare Merlin's shares; each side draws its own noise, so that only chance may differ."""
    del study
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 256, (400, 8, 8, 1)), rng.integers(0, CLASSES, 400)
    pool = place(images.astype(np.uint8), labels, CLASSES, NUMERICS)
    model = Wavy(64, CLASSES)
    parameters = {"repetitions": 100, "sigma": 0.01}
    ours = merlin_module.measure(Subject(model, pool, NUMERICS, 0), parameters).astype(np.float64)

    def predict(input_fn: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(255 * input_fn).reshape(-1, 1, 8, 8)
        return softmax(model(pool.normalize(pixels)).numpy())

    tensorflow = mock.Mock()
    tensorflow.estimator.inputs.numpy_input_fn = lambda x, **_: x["x"]
    numpy = mock.Mock(wraps=np, random=rng)  # so that the noise there is seeded too
    given: dict[str, Any] = {"np": numpy, "SMALL_VALUE": 1e-6, "tf": tensorflow}
    given |= load(folder / "core/utilities.py", {"log_loss", "generate_noise"}, given)
    given["get_predictions"] = lambda found: (None, found)
    public = load(folder / "core/attack.py", {"get_merlin_ratio"}, given)
    x = images.reshape(400, 64) / 255
    loss = np.array(public["log_loss"](labels, predict(x)))
    classifier = mock.Mock(predict=predict)
    found = public["get_merlin_ratio"](x, labels, classifier, loss, ("gaussian", "full", 0.01))
    p = np.clip((ours + found) / 2, 0.005, 0.995)
    spread = ((ours - found) ** 2 / (2 * p * (1 - p) / 100)).mean()
    yield Row(
        "`merlin`: shares, of a network of sines",
        "core/attack.py `get_merlin_ratio`, gaussian, full, 0.01",
        f"correlation {np.corrcoef(ours, found)[0, 1]:.3f}; mean {ours.mean():.3f} / "
        f"{found.mean():.3f}; squared difference {spread:.2f} of what chance gives",
        "each side draws its own noise",
    )


def ml_leaks(study: Study, folder: Path) -> Iterator[Row]:
    """Compare what ML-Leaks' attack networks see, and its attack 3."""
    public = load(folder / "mlLeaks.py", {"clipDataTopX"}, {"np": np})["clipDataTopX"]
    p = softmax(study.logits[TARGET, study.used, 0])
    ours = networks.top_three(p)
    yield Row("`salem_1`, input", "mlLeaks.py `clipDataTopX`, 3", equal(ours, public(p)), "")
    ours = study.score(method="salem_3")[study.used]
    found = public(p, top=1)[:, 0]
    yield Row("`salem_3`, maximum", "mlLeaks.py `clipDataTopX`, 1", equal(ours, found), "rounding")


def labels_only(study: Study, folder: Path) -> Iterator[Row]:
    """Compare which shifts of an image are asked for."""
    del study
    public = load(folder / "utils.py", {"create_translates"}, {"np": np})["create_translates"]
    for extent in (1, 3):
        ours = {(query.dy, query.dx) for query in shifts(extent)} | {(0, 0)}
        found = {shift[1:3] for shift in public(extent)}
        agreement = "identical" if ours == found else f"{len(ours ^ found)} differ"
        yield Row(
            f"`label_only_augment`, shifts, extent {extent}",
            "utils.py `create_translates`",
            agreement,
            "borders: reflected here, repeated there",
        )

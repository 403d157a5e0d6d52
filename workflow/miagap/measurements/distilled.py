"""phi of every sample under students: models trained to give the subject's answers.

A student learns from a half of the population (the reserve; without one, the whole pool) and
is asked about all samples but these. It is trained as the subject's technique trains, except
that labels are the subject's answers to the images as the student sees them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from miagap import augment, seeds
from miagap.augment import Augmentation
from miagap.errors import InputError
from miagap.measurements.subject import Asking, Subject
from miagap.models import ModelSettings, for_inference
from miagap.training.batches import Augment, epoch_batches, steps_per_epoch
from miagap.training.optimizer import Sgd
from miagap.training.settings import TrainingSettings, learning_rate
from miagap.training.trainer import make_model


def measure(subject: Subject, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return phi of the samples under each student, float32 (n, students).

    NaN at the samples that a student learned from.

    Args:
        subject: the model, and how its technique trains.
        parameters: ``students``, and their ``epochs`` (0: as many as the technique's).
    """
    recipe = subject.training
    assert recipe is not None
    settings = student_settings(recipe["training"], parameters["epochs"])
    own = [Augmentation(**one) for one in recipe["augmentations"]]
    pipeline = augment.build(own, subject.pool.mean.tolist()) if own else None
    model = ModelSettings.from_config(recipe["model"])
    phi = np.empty((len(subject.pool), parameters["students"]), np.float32)
    for number in range(parameters["students"]):
        learned = student_samples(subject, number)
        # Dropout and models of the user's own draw from torch's global state.
        devices = [subject.numerics.device] if subject.numerics.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            student = distil(subject, learned, pipeline, model, settings, number)
        asking = Asking(replace(subject, model=student))
        with torch.inference_mode():
            for part in asking.parts():
                values = asking.phi(part.pixels, part.labels)
                phi[part.rows, number] = values.cpu().numpy()
        if not np.isfinite(phi[:, number]).all():
            raise InputError(
                f"attacks: student {number} of {'-'.join(map(str, subject.identity))} diverged; "
                "lower training.learning_rate of its technique or set training.gradient_clip"
            )
        phi[learned, number] = np.nan
    return phi


def student_settings(section: Mapping[str, Any], epochs: int) -> TrainingSettings:
    """Return how students train: as the technique does, without mixup, for ``epochs`` if not 0."""
    length = epochs or section["epochs"]
    kept = {key: value for key, value in section.items() if key not in ("checkpoints", "best")}
    return TrainingSettings.from_config(
        {**kept, "epochs": length, "checkpoints": (length,), "mixup": 0.0}
    )


def student_samples(subject: Subject, number: int) -> np.ndarray:
    """Return the samples that a student learns from: bool (n,).

    Students 2k and 2k + 1 learn from complementary halves of the population, the same ones for
    every model of a study.
    """
    reserve = subject.reserve
    assert reserve is not None
    population = np.flatnonzero(reserve if reserve.any() else np.ones_like(reserve))
    if population.size < 4:
        raise InputError(
            f"attacks: students learn from halves of the reserve, which has {population.size} "
            "samples; raise splits.reserve, or set it to 0"
        )
    rng = seeds.generator(subject.study_seed, "distil", "population", number // 2)
    first = rng.permutation(population)[: population.size // 2]
    learned = np.zeros(len(reserve), dtype=bool)
    learned[first if number % 2 == 0 else np.setdiff1d(population, first)] = True
    return learned


def distil(
    subject: Subject,
    learned: np.ndarray,
    pipeline: Augment | None,
    model: ModelSettings,
    settings: TrainingSettings,
    number: int,
) -> nn.Module:
    """Train one student on the subject's answers (soft labels), in float32."""
    pool, numerics = subject.pool, subject.numerics
    rng_seed = seeds.derive_int(subject.study_seed, "distil", *subject.identity, number)
    torch.manual_seed(rng_seed)
    teacher = for_inference(subject.model)
    student = make_model(model, settings, pool, numerics, rng_seed).train()
    optimizer = Sgd(
        student.parameters(), settings.momentum, settings.nesterov, settings.weight_decay
    )
    samples = torch.from_numpy(np.flatnonzero(learned)).to(numerics.device)
    steps = steps_per_epoch(len(samples), settings.batch_size)
    for epoch in range(1, settings.epochs + 1):
        batches = epoch_batches(pool, samples, pipeline, settings, rng_seed, epoch, torch.float32)
        for step, batch in enumerate(batches, start=(epoch - 1) * steps):
            with torch.no_grad():
                answers = teacher(batch.images).softmax(dim=1)
            optimizer.zero_grad()
            functional.cross_entropy(student(batch.images), answers).backward()
            if settings.gradient_clip is not None:
                nn.utils.clip_grad_norm_(student.parameters(), settings.gradient_clip)
            optimizer.step(learning_rate(settings, step, steps))
    return student.eval()

"""What a study's jobs cost: seconds, memory and disk, estimated from the config alone.

Used for what jobs ask of a cluster (with a margin, more of it on every attempt) and for
``snakemake plan``. Constants were measured; docs/cluster.md compares plans with runs.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from miagap.attacks.base import Measurement
from miagap.imports import Size
from miagap.names import LEAVE_ONE_OUT
from miagap.study import Block, Study
from miagap.throughput import Device

MB = 1e6
# Start-up of a job's script, seconds of CPU and MB: interpreter and imports.
TORCH_SECONDS, TORCH_MB = 2.7, 850.0
WARM_UP_SECONDS = 1.5  # the first training steps choose kernels
NUMPY_SECONDS, NUMPY_MB = 0.6, 150.0
PANDAS_MB = 350.0
# On Slurm two nested Snakemakes surround the script.
NESTED_MB, NESTED_SECONDS = 400.0, 20.0
CUDA_MB, CUDA_CONTEXT_MB = 2500.0, 600.0
# Time limits: estimates are often off by this, and a node may be busy.
SLACK = 2.0
LEAST_MINUTES = 10
# Seconds per target and attack beside the work per sample; per sample of a target; per
# sample of a target and shadow model (measured, benchmarks/attacks.py).
ATTACK_TARGET, ATTACK_SAMPLE, ATTACK_PAIR = 0.008, 2.5e-7, 6e-9
# Attacks that train a network or search neighbours, relative to LiRA.
HEAVY = {"shokri": 20.0, "salem_1": 5.0, "rmia": 10.0, "long": 20.0, "bertran": 20.0}
HEAVY |= {"nasr": 20.0, "label_only_augment": 5.0, "morgan": 20.0}
# Signals beyond logits: samples asked about at once, the cost of a gradient of one sample in
# queries of one, and memory for gradients (``measurements.subject``, ``measurements.white_box``).
MEASURE_BATCH, WHITE_BOX_QUERIES, GRADIENTS_MB = 256, 7.0, 400.0
# Seconds per model and sample of an imported study's membership; per logit that is imported.
MEMBERSHIP_SECONDS, IMPORT_VALUE = 1e-8, 4e-8
PARQUET_FILE = 4_000  # bytes of schema and metadata
KNOWN_POOLS = {
    "digits": (1797, 8, 1, 10),
    "cifar10": (60_000, 32, 3, 10),
    "cifar100": (60_000, 32, 3, 100),
    "fashion_mnist": (70_000, 28, 1, 10),
}


@dataclass(frozen=True)
class PoolShape:
    """Size of the pool: samples, pixels per side, channels, classes."""

    samples: int
    size: int
    channels: int
    classes: int
    assumed: bool = False

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.size * self.size * self.channels


@dataclass(frozen=True)
class Cost:
    """What one job takes.

    Attributes:
        seconds: of one process, start-up included.
        memory_mb: peak resident memory of the script.
        disk_bytes: of all its outputs.
        gpu_memory_mb: peak memory on a GPU, 0 for jobs that use none.
    """

    seconds: float
    memory_mb: float
    disk_bytes: float
    gpu_memory_mb: float = 0.0

    def request_mb(self, attempt: int) -> int:
        """Memory to ask for: half as much again, doubled with every further attempt."""
        asked = (1.5 * self.memory_mb + NESTED_MB) * 2 ** (attempt - 1)
        return 100 * math.ceil(asked / 100)

    def request_minutes(self, attempt: int, factor: float) -> int:
        """Minutes to ask for; ``factor`` is how far off the device's figures may be."""
        seconds = SLACK * factor * self.seconds + NESTED_SECONDS
        return attempt * max(LEAST_MINUTES, math.ceil(seconds / 60))


def pool_shape(settings: Mapping[str, Any], summary: Path | None = None) -> PoolShape:
    """Return the pool's size: from the dataset job's summary, or from the config.

    Sources whose size the config does not tell are taken for CIFAR-10's (``assumed``).
    """
    if summary is not None and summary.is_file():
        found = json.loads(summary.read_text(encoding="utf-8"))
        height, _, channels = found["shape"]
        return PoolShape(found["n"], height, channels, len(found["class_names"]))
    source = settings["source"]
    samples, size, channels, classes = KNOWN_POOLS.get(source, KNOWN_POOLS["cifar10"])
    per_class = samples / classes
    if settings["classes"] is not None:
        classes = len(settings["classes"])
    if settings["per_class"] is not None:
        per_class = min(per_class, settings["per_class"])
    size = settings["size"] or size
    return PoolShape(round(per_class * classes), size, channels, classes, source not in KNOWN_POOLS)


@dataclass(frozen=True)
class Network:
    """Arithmetic of a network: multiply-adds per image, parameters, activations per image.

    ``width`` is the mean number of channels, weighted by multiply-adds; ``features`` is the
    number of those below the last layer.
    """

    macs: float
    parameters: float
    activations: float
    width: float
    features: int


def network(model: Mapping[str, Any], shape: PoolShape) -> Network:
    """Return a network's arithmetic; a user's own model is taken for ResNet-18."""
    widths, blocks = model["widths"], model["blocks"]
    if model["name"] != "resnet":
        widths, blocks = (64, 128, 256, 512), (2, 2, 2, 2)
    macs = parameters = activations = weighted = 0.0
    before, side = shape.channels, shape.size
    layers = [(3, before, widths[0], side)]
    before = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(count):
            stride = 2 if stage and block == 0 else 1
            side = max(1, math.ceil(side / stride))
            layers += [(3, before, width, side), (3, width, width, side)]
            if stride != 1 or before != width:
                layers.append((1, before, width, side))
            before = width
    for kernel, into, out, pixels in layers:
        own = kernel * kernel * into * out
        parameters += own + 4 * out
        macs += own * pixels * pixels
        weighted += own * pixels * pixels * out
        activations += 3 * out * pixels * pixels
    parameters += before * shape.classes + shape.classes
    return Network(macs, parameters, activations, weighted / macs, before)


class Costs:
    """Costs of the jobs and artifacts of a study.

    Args:
        study: the study.
        shape: its pool.
        device: what trains and extracts.
        imported: how large imported models' answers are; None where models are trained.
    """

    def __init__(
        self, study: Study, shape: PoolShape, device: Device, imported: Size | None = None
    ) -> None:
        self.study, self.shape, self.device, self.imported = study, shape, device, imported
        self.network = network(study.values["model"], shape)
        own = len(study.values["extraction"]["queries"])
        self.queries = own if imported is None else imported.queries

    # --- artifacts, bytes -----------------------------------------------------------------

    @property
    def pool_bytes(self) -> float:
        """Bytes of the pool."""
        return self.shape.samples * (self.shape.image_bytes + 8.0)

    @property
    def model_bytes(self) -> float:
        """Bytes of one checkpoint."""
        return 4 * self.network.parameters + 20_000

    @property
    def logit_bytes(self) -> float:
        """Bytes of one tuple's logits, phi and loss: floats hardly compress."""
        per_sample = 4 * self.shape.classes + 16 * self.queries + 2
        return self.shape.samples * per_sample + PARQUET_FILE

    @property
    def shadow_bytes(self) -> float:
        """Bytes of a shadow pool."""
        with_logits = "logits" in self.study.attack_needs
        per_sample = 8 * self.queries + 9 + (4 * self.shape.classes if with_logits else 0)
        own = len(self.study.pool_runs) * self.shape.samples * per_sample
        return own + len(self.study.pool_runs) * sum(
            self.signal_bytes(one) for one in self.study.measurements
        )

    def signal_bytes(self, measurement: Measurement) -> float:
        """Bytes of one tuple's values of a signal beyond logits."""
        given = dict(measurement.parameters)
        per_sample = {
            "merlin": 4.0,
            "augmented": self._views(measurement),
            "robustness": 4.0 * (1 + given.get("levels", 0)),
            "boundary": 4.0,
            "white_box": 24.0 * given.get("layers", 0),
            "features": 2.0 * self.network.features,
            "distilled": 4.0 * given.get("students", 0),
        }
        return self.shape.samples * (per_sample[measurement.kind] + 4)

    @property
    def scores_bytes(self) -> float:
        """Bytes of one attacked tuple's scores, ROC points and metrics."""
        attacks = len(self.study.values["attacks"])
        return self.shape.samples * (4 * attacks + 1) + attacks * 15_000 + 4 * PARQUET_FILE

    # --- jobs ---------------------------------------------------------------------------

    def train(self, block: Block, technique: str) -> Cost:
        """Train the runs of a block."""
        settings = self.study.training(technique)
        share = (1 - self.study.values["splits"]["reserve"]) / 2
        images = self.shape.samples * share
        flops = 6 * self.network.macs
        step = self.device.step_seconds
        per_image = flops / self.device.training_rate(self.network.width)
        per_image += step / settings["batch_size"] + self._augment_seconds(technique)
        every = self.study.values["training"]["evaluate_every"]
        epochs = {int(c) for c in block.checkpoints if c != "best"}
        evaluations = len(epochs | set(range(every, settings["epochs"] + 1, every)))
        seconds = settings["epochs"] * images * per_image
        seconds += evaluations * self.shape.samples * self._infer_seconds
        disk = len(block.runs) * len(block.checkpoints) * self.model_bytes
        return Cost(
            TORCH_SECONDS + WARM_UP_SECONDS + len(block.runs) * seconds,
            self._torch_mb(settings["batch_size"]) + len(block.checkpoints) * self.model_bytes / MB,
            disk + len(block.runs) * 10_000,
            self._gpu_mb(settings["batch_size"], trains=True),
        )

    def extract(self, block: Block) -> Cost:
        """Ask the models of a block at every query."""
        tuples = len(block.runs) * len(block.checkpoints)
        seconds = self.shape.samples * (self.queries * self._infer_seconds + 1e-6)
        batch = self._infer_batch
        memory = self._torch_mb(0) + batch * self.network.activations * 4 / 3 / MB
        return Cost(
            TORCH_SECONDS + tuples * (seconds + 0.05),
            memory + 4 * self.logit_bytes / MB,
            tuples * self.logit_bytes,
            self._gpu_mb(batch, trains=False),
        )

    def membership(self) -> Cost:
        """Gather what imported models were trained on."""
        entries = self.shape.samples * len(self.study.pool_runs)
        seconds = NUMPY_SECONDS + entries * MEMBERSHIP_SECONDS
        return Cost(seconds, NUMPY_MB + 4.0 * entries / MB, entries / 8 + PARQUET_FILE)

    def import_models(self, block: Block) -> Cost:
        """Write the answers of a block's imported models as our extraction does."""
        assert self.imported is not None
        tuples = len(block.runs) * len(block.checkpoints)
        values = self.shape.samples * self.queries * self.shape.classes
        one = values * IMPORT_VALUE + self.logit_bytes / 2e8
        # The file is mapped, the table is held whole, and both again while it is written.
        memory = NUMPY_MB + (self.imported.file_bytes + 6 * self.logit_bytes) / MB
        return Cost(NUMPY_SECONDS + tuples * (one + 0.02), memory, tuples * self.logit_bytes)

    def measure(self, block: Block, technique: str, measurement: Measurement) -> Cost:
        """Ask the models of a block for a signal beyond logits."""
        tuples = len(block.runs) * len(block.checkpoints)
        given = dict(measurement.parameters)
        asked = {
            "merlin": 1.0 + given.get("repetitions", 0),
            "augmented": self._views(measurement),
            "robustness": 1.0 + given.get("levels", 0) * given.get("repetitions", 0),
            "boundary": 32.0 + given.get("steps", 0) * (given.get("queries", 0) + 24),
            "white_box": WHITE_BOX_QUERIES,
            "features": 1.0,
            "distilled": float(given.get("students", 0)),
        }
        seconds = asked[measurement.kind] * self.shape.samples * (self._infer_seconds + 1e-6)
        trains = measurement.kind == "distilled"
        batch = MEASURE_BATCH
        if trains:
            # Half of the population, so as many samples as the technique's own models have.
            one = self.train(replace(block, runs=block.runs[:1]), technique)
            length = self.study.training(technique)["epochs"]
            share = (given["epochs"] or length) / length
            seconds += given["students"] * share * 1.4 * one.seconds
            batch = self.study.training(technique)["batch_size"]
        held = GRADIENTS_MB if measurement.kind == "white_box" else 0.0
        return Cost(
            TORCH_SECONDS + tuples * (seconds + 0.05),
            self._torch_mb(2 * batch) + held,
            tuples * self.signal_bytes(measurement),
            self._gpu_mb(batch, trains=trains) + held,
        )

    def shadow(self) -> Cost:
        """Gather one shadow pool."""
        models = len(self.study.pool_runs)
        seconds = NUMPY_SECONDS + models * (0.005 + self.logit_bytes / 3e8)
        memory = NUMPY_MB + (2 * self.shadow_bytes + 4 * self.logit_bytes) / MB
        return Cost(seconds, memory, self.shadow_bytes)

    def attack(self, protocol: str) -> Cost:
        """Attack one group of targets with one shadow pool."""
        targets = len(self.study.targets(protocol))
        shadows = len(self.study.pool_runs)
        n = self.shape.samples
        entries = self.study.values["attacks"].values()
        weight = sum(HEAVY.get(entry["method"], 1.0) for entry in entries)
        per_target = n * (ATTACK_SAMPLE + shadows * self.queries * ATTACK_PAIR)
        seconds = targets * (weight * per_target + len(entries) * ATTACK_TARGET)
        seconds += targets * len(entries) * 0.004 + self.shadow_bytes / 3e8
        pools = 1 if protocol == LEAVE_ONE_OUT else 2
        scores = 8.0 * targets * n * (len(entries) + 4)
        memory = NUMPY_MB + (2.5 * (pools + 1) * self.shadow_bytes + 2 * scores) / MB
        return Cost(NUMPY_SECONDS + seconds, memory, targets * self.scores_bytes)

    def collect(self) -> Cost:
        """Join the files of all attacked tuples."""
        rows = self.attacked * len(self.study.values["attacks"])
        return Cost(3 + self.attacked * 0.003, PANDAS_MB + rows * 0.01, rows * 400.0)

    @cached_property
    def attacked(self) -> int:
        """Number of attacked tuples, counted once per attacker and protocol."""
        groups = len(self.study.attack_groups)
        return sum(groups * len(self.study.targets(protocol)) for protocol in self.study.protocols)

    # --- parts --------------------------------------------------------------------------

    def _views(self, measurement: Measurement) -> float:
        """Views of a sample, itself among them, of augmented queries."""
        given = dict(measurement.parameters)
        return 3.0 if given.get("views") == "rotations" else 1.0 + 4 * given.get("extent", 0)

    @property
    def _infer_batch(self) -> int:
        """Samples of one inference step; as ``Numerics.inference_batch`` where none is set."""
        fastest = 128 if self.device.name.startswith("CPU") else 2048
        return int(self.study.values["extraction"]["batch_size"] or fastest)

    @property
    def _infer_seconds(self) -> float:
        fixed = self.device.step_seconds / 3 / self._infer_batch
        return 2 * self.network.macs / self.device.infer_rate + fixed

    def _augment_seconds(self, technique: str) -> float:
        """Seconds of augmenting one image on one CPU thread; next to nothing on a GPU."""
        if not self.device.name.startswith("CPU"):
            return 2e-6
        per_pixel = {"crop": 4e-9, "mirror": 2e-9, "cutout": 4e-9, "cifar_policy": 6e-8}
        pixels = self.shape.image_bytes
        names = [one["name"] for one in self.study.augmentations(technique)]
        return sum(2e-6 + per_pixel.get(name, 1e-8) * pixels for name in names)

    def _torch_mb(self, batch_size: int) -> float:
        """Memory of a process with the pool and, if it trains, a batch's activations."""
        base = TORCH_MB if self.device.name.startswith("CPU") else CUDA_MB
        batch = batch_size * self.network.activations * 4
        weights = 12 * self.network.parameters
        return base + (3 * self.pool_bytes + batch + weights) / MB

    def _gpu_mb(self, batch_size: int, *, trains: bool) -> float:
        """Memory on a GPU: context, pool, weights with gradients and momentum, activations."""
        weights = (12 if trains else 8) * self.network.parameters
        training = batch_size * self.network.activations * 4 if trains else 0.0
        asking = max(2048, batch_size) * self.network.activations / 3
        return CUDA_CONTEXT_MB + (2 * self.pool_bytes + weights + max(training, asking)) * 1.3 / MB

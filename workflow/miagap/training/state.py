"""The saved state of an unfinished training run: one safetensors file, no pickle.

It holds everything that later epochs depend on: weights, momentum, the history, and the
checkpoints reached so far (the workflow engine may have deleted a killed job's outputs).
Random states are derived from the epoch and need no saving.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from miagap.artifacts import read_tensors, write_tensors
from miagap.errors import InputError
from miagap.training.optimizer import Sgd

Weights = dict[str, Tensor]
Log = Callable[[str], None]


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: epochs finished.
        history: one row per epoch.
        checkpoints: weights by checkpoint name, on the CPU.
        best_loss: lowest validation loss so far.
        best_epoch: its epoch.
    """

    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: dict[str, Weights] = field(default_factory=dict)
    best_loss: float | None = None
    best_epoch: int | None = None


def digest(*parts: str | np.ndarray) -> str:
    """Return the identity of a run: equal runs, and only those, may share a state."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data
        total.update(hashlib.sha256(data).digest())
    return total.hexdigest()


def weights_of(model: nn.Module) -> Weights:
    """Return a copy of a model's state on the CPU, contiguous, floating tensors in float32."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor)
        .detach()
        .to("cpu", copy=True)
        .contiguous()
        for name, tensor in model.state_dict().items()
    }


def save(
    path: Path,
    identity: str,
    model: nn.Module,
    optimizer: Sgd,
    progress: Progress,
) -> None:
    """Write the state atomically."""
    arrays = {f"model/{name}": tensor.numpy() for name, tensor in weights_of(model).items()}
    for index, momentum in enumerate(optimizer.momenta):
        arrays[f"momentum/{index}"] = momentum.cpu().numpy()
    for checkpoint, weights in progress.checkpoints.items():
        for name, tensor in weights.items():
            arrays[f"checkpoint/{checkpoint}/{name}"] = tensor.numpy()
    metadata = {
        "identity": identity,
        "epoch": str(progress.epoch),
        "history": json.dumps(progress.history),
        "best": json.dumps([progress.best_loss, progress.best_epoch]),
    }
    write_tensors(arrays, path, metadata)


def load(
    path: Path,
    identity: str,
    model: nn.Module,
    optimizer: Sgd,
    log: Log,
) -> Progress:
    """Restore model and optimizer from ``path``, if it holds a state of this very run.

    A missing state means a start from the beginning; so does one of other settings or a
    damaged one, with a line in the log.
    """
    if not path.exists():
        return Progress()
    try:
        arrays, metadata = read_tensors(path)
    except InputError as error:
        log(f"saved state ignored: {error}")
        return Progress()
    if metadata.get("identity") != identity:
        log(f"saved state ignored: {path} belongs to other settings")
        return Progress()
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    model.load_state_dict(_below(tensors, "model/"))
    for index, momentum in enumerate(optimizer.momenta):
        momentum.copy_(tensors[f"momentum/{index}"])
    best_loss, best_epoch = json.loads(metadata["best"])
    progress = Progress(
        epoch=int(metadata["epoch"]),
        history=json.loads(metadata["history"]),
        best_loss=best_loss,
        best_epoch=best_epoch,
    )
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name, tensor in _below(tensors, "checkpoint/").items():
        checkpoint, _, key = name.partition("/")
        # The file may hold a scalar (BatchNorm's counter) as an array of one.
        weights = progress.checkpoints.setdefault(checkpoint, {})
        weights[key] = tensor.reshape(shapes[key])
    log(f"resumed after epoch {progress.epoch} from {path}")
    return progress


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Weights:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }

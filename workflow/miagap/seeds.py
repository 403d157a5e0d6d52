"""Random states by derivation: from the study seed and a name, never from time or job order."""

import hashlib

import numpy as np


def derive(study_seed: int, *key: str | int) -> np.random.SeedSequence:
    """Return the seed sequence that belongs to ``key`` in the study.

    The key's parts (for example ``"train", "crop", 0, 3``) are hashed, so that the
    state of one tuple never depends on which other tuples a study has.

    Args:
        study_seed: non-negative integer from the config.
        key: names and numbers that identify the use; order matters.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4")
    return np.random.SeedSequence(entropy=study_seed, spawn_key=tuple(int(w) for w in words))


def derive_int(study_seed: int, *key: str | int) -> int:
    """Return an integer in [0, 2**63) derived from the study seed and ``key``."""
    high, low = derive(study_seed, *key).generate_state(2, dtype=np.uint32)
    return ((int(high) << 32) | int(low)) >> 1


def generator(study_seed: int, *key: str | int) -> np.random.Generator:
    """Return a NumPy generator in the state that belongs to ``key``."""
    return np.random.default_rng(derive(study_seed, *key))

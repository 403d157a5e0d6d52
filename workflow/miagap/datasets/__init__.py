"""Datasets: one reader per family of sources, the pool that they give, and its checks."""

from miagap.datasets.checks import PoolSummary, check_pool
from miagap.datasets.load import load_pool
from miagap.datasets.settings import DatasetSettings
from miagap.pool import Pool, checksum, read_pool, write_pool

__all__ = [
    "DatasetSettings",
    "Pool",
    "PoolSummary",
    "check_pool",
    "checksum",
    "load_pool",
    "read_pool",
    "write_pool",
]

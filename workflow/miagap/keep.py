"""Finished runs of an unfinished job: kept beside the results until the job is whole.

A workflow engine deletes what a killed or failed job wrote. A job that trains several
models therefore writes each into a store of its own, links the files to their places when
every model is there, and empties the store. Started again, it finds the models that were
finished and trains the others.
"""

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from miagap import artifacts
from miagap.names import HISTORY

IDENTITY = "run_identity"
_MARK = "complete"


def is_complete(store: Path, identity: str) -> bool:
    """Tell whether the store holds a finished run of this identity."""
    mark = store / _MARK
    return mark.is_file() and mark.read_text(encoding="utf-8") == identity


def mark_complete(store: Path, identity: str) -> None:
    """Say that every file of the run is in the store."""
    artifacts.write_text(identity, store / _MARK)


def begin(store: Path, identity: str) -> None:
    """Make the store ready for a run, without the files of a run of another identity.

    The saved state of an unfinished run stays: it carries an identity of its own.
    """
    store.mkdir(parents=True, exist_ok=True)
    if (store / _MARK).is_file() and not is_complete(store, identity):
        (store / _MARK).unlink()


def deliver(store: Path, files: Mapping[str, str]) -> None:
    """Link files to their places, replacing what is there.

    Args:
        store: folder of the files of a finished run.
        files: place of each file, by its name in the store.
    """
    for name, place in files.items():
        with artifacts.write_atomic(place) as temporary:
            try:
                os.link(store / name, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(store / name, temporary)


def rescue(store: Path, folder: Path, names: Collection[str]) -> bool:
    """Link a finished run's files from their place back into its store; tell whether it did.

    Before a job starts, the workflow engine deletes the outputs that are there. Where a job
    must run because some of its runs are missing, this saves the others from being trained
    again; a run of another identity is overwritten as usual.

    Args:
        store: folder of the run's store; one that holds a finished run is left as it is.
        folder: where the run's files belong.
        names: names of all files of the run.
    """
    whole = all((folder / name).is_file() for name in names)
    if not whole or (store / _MARK).is_file():
        return False
    identity = artifacts.read_metadata(folder / HISTORY).get(IDENTITY)
    if identity is None:
        return False
    deliver(folder, {name: str(store / name) for name in names})
    mark_complete(store, identity)
    return True


def discard(store: Path) -> None:
    """Remove the store, and the folders above it that this leaves empty (two at most)."""
    shutil.rmtree(store, ignore_errors=True)
    for folder in (store.parent, store.parent.parent):
        try:
            folder.rmdir()
        except OSError:
            return

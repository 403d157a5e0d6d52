"""What every job does around its work: a log file, errors without tracebacks, provenance."""

import contextlib
import fcntl
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from miagap import __version__
from miagap.digest import text_digest
from miagap.errors import InputError

Log = Callable[[str], None]


@contextlib.contextmanager
def logged(path: str) -> Iterator[Log]:
    """Run a job with its log file; end it with one line, not a traceback, on a user's error.

    The log receives what the job says, with the seconds since its start. An
    :class:`InputError` is printed as one line and the job exits with status 1; any other
    exception is a defect of ours: its traceback goes to the log as well.
    """
    start = time.monotonic()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a", encoding="utf-8", buffering=1) as handle:

        def log(message: str) -> None:
            handle.write(f"[{time.monotonic() - start:8.1f} s] {message}\n")

        try:
            yield log
            log("done")
        except InputError as error:
            log(f"error: {error}")
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except Exception as error:
            handle.write(traceback.format_exc())
            print(f"error: {type(error).__name__}: {error} (traceback in {path})", file=sys.stderr)
            raise SystemExit(1) from None


def export_library(folder: str) -> None:
    """Let the processes that this one starts import the library from ``folder``."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([folder, *filter(None, known)]))


def provenance(study: str, settings: str, code: str, **identity: object) -> dict[str, str]:
    """Return the metadata of an artifact: study, tuple, config digest, software versions.

    Args:
        study: name of the study.
        settings: the stage's settings as canonical JSON.
        code: digest of the stage's code.
        identity: parts of the tuple (technique, seed, split, checkpoint, attacker).
    """
    versions = {f"version.{name}": _version(name) for name in ("numpy", "pyarrow", "torch")}
    return {
        "study": study,
        **{key: str(value) for key, value in identity.items()},
        "config_digest": text_digest(settings),
        "code_digest": code,
        "settings": settings,
        "version.miagap": __version__,
        "version.python": platform.python_version(),
        **versions,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


@contextlib.contextmanager
def exclusive(path: Path, log: Log) -> Iterator[None]:
    """Hold a lock on ``path`` while the block runs; wait for another process that holds it.

    The kernel frees the lock when its holder dies, however it dies. A job that outlived
    its killed workflow thus finishes its work once, and the job that was started in its
    place waits and then finds the work done.
    """
    handle = _locked(path, log)
    while handle is None:
        handle = _locked(path, log)
    with handle:
        yield
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _locked(path: Path, log: Log) -> IO[str] | None:
    """Open a file and lock it; None if another process has removed the file meanwhile.

    A lock on a removed file keeps nobody out: the next process makes a new file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except FileNotFoundError:  # the folder was removed in between
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log("waiting for another process that is doing the same work")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        log(f"no lock on this file system ({error.strerror}); going on without one")
    try:
        if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
            return handle
    except FileNotFoundError:
        pass
    handle.close()
    return None


def hold(path: Path) -> int | None:
    """Take a lock for the life of this process; return its descriptor, None if it is taken.

    A file system without locks counts as free: the descriptor is then of no use but harmless.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass
    return descriptor

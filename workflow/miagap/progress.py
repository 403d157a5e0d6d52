"""How far a study is, while it runs: read from its files by any process that sees them.

Nothing reports to anything: models, tuples and pools count by the files that are there, work by
the estimates of their jobs (corrected by what finished jobs took), speed by when jobs finished,
failures by Snakemake's own log. So it works under every executor and with every logger, and a
run that was killed is told from one that is at work by its lock.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from miagap.plan import STAGES, Job, duration, seconds_taken, walk

UNITS = {
    "train": "models trained",
    "extract": "tuples extracted",
    "measure": "signals measured",
    "shadow": "shadow pools",
    "attack": "tuples attacked",
    "collect": "tables collected",
}
# Speed is that of the last hour, or of as many of the last jobs if they took longer.
RECENT_SECONDS, RECENT_JOBS = 3600.0, 10
COMPLETE = "complete"  # the mark of a finished run in its store (``keep``)
DONE, FAILED, OPEN = "done", "failed", "open"
_REPORT = re.compile(r"^Error in rule (\S+):\n((?:    .*\n)*)", re.MULTILINE)
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Stage:
    """One stage: what is done of all that it makes."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class Failure:
    """A job of this run that failed.

    Attributes:
        log: path of its log.
        times: how often it failed.
        cause: in one line.
        mended: whether it has succeeded since.
    """

    log: str
    times: int
    cause: str
    mended: bool


@dataclass(frozen=True)
class Progress:
    """A moment of a study.

    Attributes:
        running: whether a run of the study is at work; None where that cannot be told.
        seconds: since the last run started; None if there was none.
        stages: those that the study has.
        share: of the work that is done, 0 to 1.
        models_per_hour: trained of late; None while none was.
        seconds_left: at the speed of late; None while it is not known.
        failures: jobs of the last run that failed.
        at_work: name, last words and seconds since them of jobs that have begun.
    """

    running: bool | None
    seconds: float | None
    stages: tuple[Stage, ...]
    share: float
    models_per_hour: float | None
    seconds_left: float | None
    failures: tuple[Failure, ...]
    at_work: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class _Done:
    """Work that is done: when, how much (estimated seconds), how many models."""

    when: float
    work: float
    models: int


def measure(jobs: Sequence[Job], folder: Path, engine_logs: Path, now: float) -> Progress:
    """Return how far a study is.

    Args:
        jobs: all of them (``plan.study_jobs``).
        folder: of the study's results.
        engine_logs: where Snakemake writes its logs (``.snakemake/log``).
        now: seconds since the epoch.
    """
    files = {entry.path for entry in walk(folder)}
    lock = folder / ".lock"
    since = _changed(lock)
    ratios = _ratios(jobs, files)
    units = {id(job): _units_done(job, files) for job in jobs}
    work = {id(job): job.cost.seconds * ratios.get(job.stage, 1.0) for job in jobs}
    total = sum(work.values())
    done = sum(work[id(job)] * units[id(job)] / job.units for job in jobs)
    steps = [step for job in jobs for step in _steps(job, work[id(job)], files)]
    speed, models = _speed(steps, since, now)
    running = is_held(lock)
    return Progress(
        running=running,
        seconds=None if since is None else now - since,
        stages=_stages(jobs, units),
        share=done / total if total else 1.0,
        models_per_hour=3600 * models if models and running is not False else None,
        seconds_left=(total - done) / speed if speed and running is not False else None,
        failures=tuple(_failures(jobs, files, engine_logs, str(folder), since)),
        at_work=tuple(_at_work(jobs, units, files, since, now)),
    )


def is_held(lock: Path) -> bool | None:
    """Tell whether a run holds the study's lock; None where locks do not work."""
    try:
        with lock.open() as handle:
            # Shared, and for a moment only: a run that starts meanwhile tries again.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _stages(jobs: Sequence[Job], units: Mapping[int, int]) -> tuple[Stage, ...]:
    found = []
    for name in STAGES:
        own = [job for job in jobs if job.stage == name]
        if own:
            done = sum(units[id(job)] for job in own)
            found.append(Stage(name, done, sum(job.units for job in own)))
    return tuple(found)


def _units_done(job: Job, files: set[str]) -> int:
    """Return how many models, tuples or pools of a job are there."""
    size = len(job.outputs) // job.units
    return sum(
        all(path in files for path in job.outputs[k * size : (k + 1) * size])
        or bool(job.stores and f"{job.stores[k]}/{COMPLETE}" in files)
        for k in range(job.units)
    )


def _ratios(jobs: Sequence[Job], files: set[str]) -> dict[str, float]:
    """Return seconds taken over seconds estimated of each stage of which jobs have finished."""
    estimated: dict[str, float] = {}
    took: dict[str, float] = {}
    for job in jobs:
        seconds = seconds_taken(job.benchmark) if job.benchmark in files else None
        if seconds is not None:
            estimated[job.stage] = estimated.get(job.stage, 0.0) + job.cost.seconds
            took[job.stage] = took.get(job.stage, 0.0) + seconds
    return {stage: took[stage] / estimated[stage] for stage in took}


def _steps(job: Job, work: float, files: set[str]) -> Iterator[_Done]:
    """Yield what a job has done: the whole of it, or the models that it has finished so far."""
    trains = job.stage == "train"
    if job.benchmark in files and all(path in files for path in job.outputs):
        when = _changed(Path(job.benchmark))
        if when is not None:
            yield _Done(when, work, job.units if trains else 0)
        return
    for store in job.stores:
        mark = f"{store}/{COMPLETE}"
        when = _changed(Path(mark)) if mark in files else None
        if when is not None:
            yield _Done(when, work / job.units, int(trains))


def _speed(steps: Sequence[_Done], since: float | None, now: float) -> tuple[float, float]:
    """Return work and models done per second of late, 0 while nothing was."""
    if since is None:
        return 0.0, 0.0
    times = sorted((step.when for step in steps), reverse=True)
    oldest = times[:RECENT_JOBS][-1] - 1.0 if times else now
    start = max(since, min(now - RECENT_SECONDS, oldest))
    recent = [step for step in steps if start < step.when]
    seconds = max(1.0, now - start)
    return sum(step.work for step in recent) / seconds, sum(
        step.models for step in recent
    ) / seconds


def _failures(
    jobs: Sequence[Job], files: set[str], engine_logs: Path, folder: str, since: float | None
) -> Iterator[Failure]:
    """Yield the jobs of this study that have failed since a time.

    Snakemake's logs know of every failure, also of jobs that were killed, unless they were asked
    to be quiet about rules; the jobs' own logs know the last failure that has a cause.
    """
    reported = _reported(engine_logs, folder, since)
    for job in jobs:
        begun = (_changed(Path(job.log)) or 0.0) if job.log in files else 0.0
        if since is not None and begun >= since and last_words(Path(job.log))[0] == FAILED:
            reported.setdefault(job.log, [""])
    for log, causes in reported.items():
        fate, words = last_words(Path(log))
        cause = words if fate == FAILED else causes[-1]
        cause = cause or "no last words: killed, or out of memory"
        yield Failure(log, len(causes), cause, fate == DONE)


def _reported(engine_logs: Path, folder: str, since: float | None) -> dict[str, list[str]]:
    """Return what Snakemake's logs since a time say of each failure, by the job's log."""
    found: dict[str, list[str]] = {}
    for path in sorted(engine_logs.glob("*.snakemake.log")):
        if since is None or (_changed(path) or 0.0) < since:
            continue
        for _, lines in _REPORT.findall(path.read_text(encoding="utf-8", errors="replace")):
            log = re.search(r"^    log: (\S+)", lines, re.MULTILINE)
            status = re.search(r"SLURM status is: '(\w+)'", lines)
            if log and log[1].startswith(f"{folder}/"):
                cause = f"Slurm says {status[1]}" if status else ""
                found.setdefault(log[1], []).append(cause)
    return found


def _at_work(
    jobs: Sequence[Job],
    units: Mapping[int, int],
    files: set[str],
    since: float | None,
    now: float,
) -> Iterator[tuple[str, str, float]]:
    """Yield jobs of this run that have begun and said nothing of an end, by their logs."""
    for job in jobs:
        if units[id(job)] == job.units or job.log not in files:
            continue
        when, (fate, words) = _changed(Path(job.log)), last_words(Path(job.log))
        if when is not None and since is not None and when >= since and fate == OPEN:
            yield f"{job.stage} {Path(job.log).parent.name}/{Path(job.log).stem}", words, now - when


def last_words(log: Path) -> tuple[str, str]:
    """Return how a job ended by its log (``DONE``, ``FAILED`` or ``OPEN``), and its last line.

    A job's own lines begin with the seconds since its start; what follows a defect does not.
    """
    try:
        with log.open("rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - _TAIL_BYTES))
            lines = handle.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return OPEN, ""
    if not lines:
        return OPEN, ""
    words = re.sub(r"^\[ *[\d.]+ s\] ", "", lines[-1])
    if words.startswith("error: ") or words == lines[-1]:
        return FAILED, words.removeprefix("error: ")
    return (DONE if words == "done" else OPEN), words


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


# --- text ---------------------------------------------------------------------------------


def summary(progress: Progress) -> str:
    """Return the progress as one line."""
    parts = [
        f"{stage.done:,} of {stage.total:,} {UNITS[stage.name]}"
        for stage in progress.stages
        if stage.name != "collect"
    ]
    parts.append(f"{_percent(progress.share)} of the work")
    if progress.models_per_hour is not None:
        parts.append(f"{progress.models_per_hour:,.3g} models an hour")
    if progress.seconds_left is not None:
        parts.append(f"about {duration(progress.seconds_left)} left")
    elif progress.running is False:
        parts.append("not running")
    mended = sum(failure.mended for failure in progress.failures)
    since = f" ({mended} done since)" if mended else ""
    parts.append(f"jobs that failed: {len(progress.failures)}{since}")
    return ", ".join(parts)


def describe(name: str, progress: Progress, at_most: int = 10) -> str:
    """Return the progress as text to print; ``at_most`` lines for jobs of either kind."""
    state = {True: "running", False: "not running", None: "running or not: no lock to tell by"}
    begun = ""
    if progress.seconds is not None:
        begun = f", last started {duration(progress.seconds)} ago"
    lines = [f"Study {name}: {state[progress.running]}{begun}"]
    for stage in progress.stages:
        share = _percent(stage.done / stage.total if stage.total else 1.0)
        counts = f"{stage.done:,} of {stage.total:,}"
        lines.append(f"  {stage.name:8} {counts:>16} {share:>5}  {UNITS[stage.name]}")
    lines.append(f"Work done: {_percent(progress.share)}")
    if progress.running is not False:
        rate = progress.models_per_hour
        known = "not known yet" if rate is None else f"{rate:,.3g}"
        lines.append(f"Models an hour of late: {known}")
        left = progress.seconds_left
        known = "not known yet" if left is None else f"about {duration(left)}"
        lines.append(f"Time left at the speed of late: {known}")
    if progress.at_work:
        lines.append(f"Jobs at work: {len(progress.at_work)}")
        lines += [
            f"  {job}: {words} ({duration(age)} ago)"
            for job, words, age in progress.at_work[:at_most]
        ]
    return "\n".join([*lines, *failures(progress, at_most)])


def failures(progress: Progress, at_most: int) -> list[str]:
    """Return the failed jobs of the last run as lines, those that still lack first."""
    lines = [f"Jobs that failed in this run: {len(progress.failures)}"]
    for one in sorted(progress.failures, key=lambda failure: failure.mended)[:at_most]:
        outcome = "done since" if one.mended else one.cause
        lines.append(f"  {one.log}: failed {one.times} time(s); {outcome}")
    return lines


def _percent(share: float) -> str:
    return f"{int(100 * share)}%"


# --- following ------------------------------------------------------------------------------


def follow(
    look: Callable[[], Progress], log: Path, show: Callable[[str], None], seconds: float
) -> Event:
    """Write a line of progress into a log, and show it, every so often while this process lives.

    Looking takes at most a hundredth of the time: where it is slow it is done less often.

    Args:
        look: returns the progress.
        log: file that gets the lines.
        show: takes a line.
        seconds: least time between two lines.

    Returns:
        An event that ends it.
    """
    end = Event()

    def run() -> None:
        wait, before = seconds, ""
        while not end.wait(wait):
            started = time.monotonic()
            line = summary(look())
            wait = max(seconds, 100 * (time.monotonic() - started))
            if line != before:
                write_line(log, line)
                show(f"progress: {line}")
            before = line

    Thread(target=run, name="progress", daemon=True).start()
    return end


def write_line(log: Path, line: str) -> None:
    """Append a line with the time to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as handle:
        handle.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

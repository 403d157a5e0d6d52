"""A real Slurm on this machine: one node, started for tests, ended by its process ids.

By hand, as root: ``python tests/cluster/slurm_daemon.py start DIR`` and ``... stop DIR``.
The packages: ``.ci/packages``.

The node has two fake GPUs (device files that are /dev/null): what is tested is the
request and its assignment, not the computation.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SETTINGS = Path("/etc/slurm")
LOCK = Path(tempfile.gettempdir()) / "miagap-slurm-of-tests.lock"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
# More than the machine may have: the jobs of tests ask for memory and use little of it.
CPUS, MEMORY_MB = 4, 32000
DEADLINE = 30.0

CLUSTER = "miagap-tests"
_OURS = "# Written by miagap's tests; removed when they end."
_SLURM_CONF = """\
{ours}
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MinJobAge=3600
KillWait=2
OverTimeLimit=0
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return what is missing here to run a Slurm daemon, one line each."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    found = [] if os.geteuid() == 0 else ["root: slurmd starts jobs as other users"]
    if absent:
        found.append(f"{', '.join(absent)}: install them with .ci/packages")
    settings = SETTINGS / "slurm.conf"
    if settings.exists() and _OURS not in settings.read_text():
        found.append(f"{SETTINGS}/slurm.conf exists: this machine has a Slurm of its own")
    return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """Run a Slurm daemon with its state below ``folder`` while the block runs.

    One at a time on a machine: another session's tests are waited for.
    """
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start(folder)
        try:
            yield
        finally:
            stop(folder)


def start(folder: Path) -> None:
    """Start munged, slurmctld and slurmd; return when the node takes jobs."""
    for name in ("state", "spool", "dev"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_settings(folder)
    _start_munge(folder)
    for program in ("slurmctld", "slurmd"):
        subprocess.run([_program(program)], check=True)
    deadline = time.monotonic() + DEADLINE
    while "idle" not in _node_state():
        if time.monotonic() > deadline:
            logs = "".join(path.read_text() for path in sorted(folder.glob("slurm*.log")))
            stop(folder)
            raise RuntimeError(f"the Slurm node does not become idle:\n{logs[-3000:]}")
        time.sleep(0.2)


def stop(folder: Path) -> None:
    """End the daemons that :func:`start` started, and remove their settings.

    Settings without a daemon behind them would cost every later Snakemake call seconds.
    """
    if (SETTINGS / "slurm.conf").exists():  # jobs outlive their daemons
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=DEADLINE)
        deadline = time.monotonic() + DEADLINE / 3
        while _jobs() and time.monotonic() < deadline:
            time.sleep(0.2)
    for pid in _processes_of_jobs():  # a cancelled job's own Snakemake may outlive it
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for program in ("slurmd", "slurmctld", "munged"):
        _end(folder / f"{program}.pid")
    for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
        (SETTINGS / name).unlink(missing_ok=True)


def _write_settings(folder: Path) -> None:
    host = socket.gethostname().split(".")[0]
    for index in range(2):
        device = folder / "dev" / f"gpu{index}"
        if not device.exists():
            os.mknod(device, 0o020666, os.makedev(1, 3))
    port, node_port = _free_port(), _free_port()
    text = _SLURM_CONF.format(
        ours=_OURS,
        cluster=CLUSTER,
        host=host,
        port=port,
        node_port=node_port,
        folder=folder,
        cpus=CPUS,
        memory=MEMORY_MB,
    )
    SETTINGS.mkdir(exist_ok=True)
    (SETTINGS / "slurm.conf").write_text(text)
    (SETTINGS / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/dev/gpu[0-1]\n")
    # Not "disabled": slurmd 22.05 does not start with it.
    (SETTINGS / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def _start_munge(folder: Path) -> None:
    """Start munged with a socket at its usual place, where clients look for it."""
    run = Path("/run/munge")
    run.mkdir(mode=0o755, exist_ok=True)
    munge = pwd.getpwnam("munge")
    os.chown(run, munge.pw_uid, munge.pw_gid)
    if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
        return  # one runs already, and is not ours to end
    pid_file = run / "munged.pid"
    subprocess.run(["runuser", "-u", "munge", "--", _program("munged")], check=True)
    deadline = time.monotonic() + DEADLINE
    while not pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (folder / "munged.pid").write_text(pid_file.read_text())


def _end(pid_file: Path) -> None:
    """End the process of a pid file: asked first, killed after some seconds."""
    if not pid_file.is_file():
        return
    pid = int(pid_file.read_text())
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def _node_state() -> str:
    found = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
    return found.stdout


def _processes_of_jobs() -> list[int]:
    """Return the processes whose environment says that this cluster's jobs started them."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        # Processes end while one looks.
        with contextlib.suppress(OSError):
            if f"SLURM_CLUSTER_NAME={CLUSTER}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def _jobs() -> str:
    states = "PENDING,RUNNING,COMPLETING"
    found = subprocess.run(["squeue", "-h", "-t", states], capture_output=True, text=True)
    return found.stdout.strip()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _program(name: str) -> str:
    found = shutil.which(name, path=_path())
    if found is None:
        raise FileNotFoundError(name)
    return found


if __name__ == "__main__":
    action, where = sys.argv[1], Path(sys.argv[2]).resolve()
    start(where) if action == "start" else stop(where)

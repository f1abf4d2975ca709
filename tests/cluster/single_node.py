"""A real Slurm of one node in a directory: munge, controller and node as ordinary processes.

No systemd, no cgroups, no database. Two partitions, of which ``urgent`` preempts ``main``.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CPUS = 8

_CONFIGURATION = """\
ClusterName=otf
SlurmctldHost={host}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=2,requeue_setup_env_fail
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=300
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} \
ThreadsPerCore=1 RealMemory=2000
PartitionName=main Nodes={host} Default=YES MaxTime=2880 State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=off
"""


def find_program(name: str) -> str | None:
    """Path of a program, also in the sbin directories."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _run(name: str, *arguments: object, environment: dict[str, str]) -> None:
    program = find_program(name)
    assert program is not None
    done = subprocess.run(
        [program, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def _end(pid_file: Path) -> None:
    """End the process whose id is in a file, and its children."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        until = time.monotonic() + patience_s
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            os.kill(pid, number)
            time.sleep(0.1)


@contextmanager
def single_node_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start Slurm, yield the environment for its commands, and stop it in any case."""
    host, user, ports = socket.gethostname().split(".")[0], getpass.getuser(), _free_ports(2)
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(host=host, user=user, folder=folder, ports=ports, cpus=CPUS)
    )
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    try:
        _run(
            "munged",
            f"--key-file={key}",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
            "--force",
            environment=environment,
        )
        _run("slurmctld", environment=environment)
        _run("slurmd", environment=environment)
        _wait_until_idle(environment)
        yield environment
    finally:
        jobs = subprocess.run(["squeue", "-h", "-o", "%i"], env=environment, capture_output=True)
        if jobs.stdout.split():
            subprocess.run(["scancel", "-s", "KILL", *jobs.stdout.split()], env=environment)
            time.sleep(1.0)
        for name in ("slurmd", "slurmctld", "munged"):
            _end(folder / f"{name}.pid")


def _wait_until_idle(environment: dict[str, str]) -> None:
    until = time.monotonic() + 60.0
    while time.monotonic() < until:
        state = subprocess.run(
            ["sinfo", "-h", "-p", "main", "-o", "%T"], env=environment, capture_output=True
        )
        if state.stdout.strip() == b"idle":
            return
        time.sleep(0.2)
    raise TimeoutError(f"the node does not become idle: {state.stdout!r} {state.stderr!r}")

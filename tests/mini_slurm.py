"""A real SLURM on this machine, for tests: a controller and several virtual nodes of its own.

Needs no root, no systemd, no cgroups and nothing of the system's configuration. Whatever is
started here is found again by ``SLURM_CONF`` in its environment, never by its name.

What no setting makes faster: SLURM looks at time limits each 30 s. ``--signal=B:USR1@L`` comes at
the first look after which the next could be too late, L to L + 30 s ahead of the end; the end comes
up to 30 s late. A test need not wait for that: ``scancel --batch --signal=USR1 JOB`` delivers the
same signal at once, and ``scontrol update JobId=JOB EndTime=now`` makes any job a TIMEOUT in 30 s.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil

T = TypeVar("T")

INSTALL = "apt-get install slurm-wlm munge"
PROGRAMS = (
    *("munged", "slurmctld", "slurmd", "setpriv"),
    *("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo", "sacct"),
)
START_SECONDS = 30
COMMAND_SECONDS = 60

CONFIGURATION = """\
ClusterName=mini
SlurmctldHost={host}({address})
SlurmctldPort={ports[0]}
{binding}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# a requeued job waits until its old credential has expired: 120 s by default
AuthInfo=socket={root}/run/munge.socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
PlugStackConfig=/dev/null
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
# memory limits without cgroups, looked at every second
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobcomp.log
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
KillWait=2
OverTimeLimit=0
# a node that is silent for so long is down, and its jobs have failed
# a command gives up after this time, and a lost node is noticed after three times as much
MessageTimeout=5
SlurmdTimeout={node_timeout}
ReturnToService=2
# the nodes have the processors and the memory that they claim
SlurmdParameters=config_overrides
{node_lines}
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=5 State=UP
PartitionName=short Nodes=ALL MaxTime=2 DefaultTime=1 State=UP
PartitionName=down Nodes=ALL MaxTime=60 DefaultTime=5 State=DOWN
"""


class MiniSlurmError(RuntimeError):
    """SLURM did not start, or a command of it failed."""


class QueuedJob(NamedTuple):
    """A line of ``squeue``."""

    id: int
    state: str
    reason: str
    node: str
    name: str


def missing_programs() -> list[str]:
    """Return what of SLURM and munge is not installed here."""
    return [program for program in PROGRAMS if shutil.which(program, path=_search_path()) is None]


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"


def _outer_variable(name: str) -> bool:
    """Say whether a variable comes from SLURM, or would change what its commands do."""
    return (
        re.match(r"SLURM|SBATCH_|SALLOC_|SQUEUE_|SINFO_|SACCT_|SCANCEL_|SCONTROL_|PMI", name)
        is not None
    )


def _address(host: str) -> tuple[str, str]:
    """Return an address of this machine, and the line that has the daemons listen there alone."""
    try:
        address = socket.gethostbyname(host)
    except OSError:
        return "127.0.0.1", ""
    return address, "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _log_of(printed: Path) -> Path:
    return printed.with_name(printed.name.removesuffix(".out") + ".log")


def _tail(file: Path, lines: int = 15) -> str:
    text = file.read_text(errors="replace") if file.exists() else "(no such file)"
    return f"--- {file.name}\n" + "\n".join(text.splitlines()[-lines:])


class MiniSlurm:
    """A cluster of virtual nodes; made by `mini_slurm`, which also takes it down.

    Attributes
    ----------
    root : Path
        Private folder of everything: configuration, state, logs.
    work : Path
        Folder in which `run` runs, and with it every job that is submitted.
    env : dict
        Environment for whatever shall use this SLURM.
    nodes : list of str
        Names of the nodes.
    """

    def __init__(
        self, root: Path, nodes: int, cpus: int, memory_mib: int, node_timeout: int
    ) -> None:
        self.root = root
        self.work = root / "work"
        self.nodes = [f"node{1 + i}" for i in range(nodes)]
        self.env = {k: v for k, v in os.environ.items() if not _outer_variable(k)}
        self.env |= {"SLURM_CONF": str(root / "etc/slurm.conf"), "PATH": _search_path()}
        self._ports = _free_ports(1 + nodes)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._make_folders()
        self._configure(cpus, memory_mib, node_timeout)

    # -- bring-up and end --------------------------------------------------------------------------

    def _make_folders(self) -> None:
        self.root.chmod(0o755)  # munged wants its socket to be within everybody's reach
        for name in ("etc", "run", "state", "log", "work", *(f"spool/{n}" for n in self.nodes)):
            (self.root / name).mkdir(mode=0o755, parents=True)
        key = self.root / "etc/munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))

    def _configure(self, cpus: int, memory_mib: int, node_timeout: int) -> None:
        host = socket.gethostname().split(".")[0]
        self._address, binding = _address(host)
        node_lines = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr={self._address} Port={port} "
            f"CPUs={cpus} RealMemory={memory_mib} State=UNKNOWN"
            for name, port in zip(self.nodes, self._ports[1:], strict=True)
        )
        text = CONFIGURATION.format(
            host=host, address=self._address, binding=binding, ports=self._ports, root=self.root,
            user=getpass.getuser(), node_timeout=node_timeout, node_lines=node_lines,
        )  # fmt: skip
        Path(self.env["SLURM_CONF"]).write_text(text)

    def start(self) -> None:
        """Start everything, and wait until all nodes take jobs."""
        self._start_munged()
        self._start_controller("-c")
        for name in self.nodes:
            self._start_node(name)
        self._await_nodes(*self.nodes)

    def close(self) -> None:
        """Kill everything that belongs to this cluster, jobs and their orphans too."""
        self._kill(lambda _: True)
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()

    def _start(self, name: str, *command: str, **env: str) -> None:
        """Start a daemon, which the kernel kills when this process dies."""
        with (self.root / f"log/{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self.env | env,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _start_munged(self) -> None:
        run, log = self.root / "run", self.root / "log"
        self._start(
            "munged", "munged", "--foreground", f"--socket={run}/munge.socket",
            f"--key-file={self.root}/etc/munge.key", f"--log-file={log}/munged.log",
            f"--pid-file={run}/munged.pid", f"--seed-file={run}/munged.seed", "--num-threads=2",
        )  # fmt: skip
        self._await_start((run / "munge.socket").exists, "munged")

    def _start_controller(self, *options: str) -> None:
        self._start("slurmctld", "slurmctld", "-D", *options)
        self._await_start(self._controller_listens, "slurmctld")

    def _controller_listens(self) -> bool:
        try:
            socket.create_connection((self._address, self._ports[0]), timeout=1).close()
        except OSError:
            return False
        return True

    def _start_node(self, name: str) -> None:
        # the variable marks slurmd and its slurmstepd as that node's, as slurmd does for the jobs
        self._start(f"slurmd.{name}", "slurmd", "-D", "-N", name, **self._marks(name))

    def _await_nodes(self, *names: str) -> None:
        def ready() -> bool:
            return all(self.node_state(name) in ("IDLE", "MIXED", "ALLOCATED") for name in names)

        self._await_start(ready, "slurmctld", *(f"slurmd.{name}" for name in names))

    def _await_start(self, ready: Callable[[], bool], *daemons: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            ended = [name for name in daemons if self._daemons[name].poll() is not None]
            if ended or time.monotonic() > deadline:
                what = f"{daemons} not up in {START_SECONDS} s, ended: {ended}"
                raise MiniSlurmError(f"{what}\n{self.log_tails()}")
            time.sleep(0.05)

    # -- asking ------------------------------------------------------------------------------------

    def run(self, *command: str | Path, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command, in `work`; return what it prints, or raise with what it complains of."""
        done = subprocess.run(
            command, env=self.env, cwd=self.work, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=seconds, check=False,
        )  # fmt: skip
        if done.returncode:
            raise MiniSlurmError(
                f"{command} ended with {done.returncode}: {done.stderr}{done.stdout}"
            )
        return done.stdout

    def submit(self, script: str, *options: str) -> int:
        """Submit the text of a bash script; return the number of the job."""
        file = self.work / f"{secrets.token_hex(4)}.sh"
        file.write_text(f"#!/bin/bash\n{script}\n")
        return int(self.run("sbatch", "--parsable", *options, file))

    def output(self, job_id: int) -> str:
        """Return what a job of `submit` has printed so far."""
        file = self.work / f"slurm-{job_id}.out"
        return file.read_text() if file.exists() else ""

    def queue(self) -> list[QueuedJob]:
        """Return the jobs that wait, run or are ending, in all partitions."""
        lines = self.run("squeue", "-h", "-a", "-r", "-o", "%A|%T|%r|%N|%j").splitlines()
        fields = (line.split("|", 4) for line in lines)
        return [QueuedJob(int(job_id), *rest) for job_id, *rest in fields]

    def job(self, job_id: int) -> dict[str, str]:
        """Return all fields of a job, also of one that has ended in the last five minutes."""
        line = self.run("scontrol", "show", "job", "-o", str(job_id)).strip()
        return dict(field.split("=", 1) for field in re.split(r" +(?=[A-Z][\w/:]*=)", line))

    def state(self, job_id: int) -> str:
        """Return the state of a job, such as ``RUNNING``."""
        return self.job(job_id)["JobState"]

    def node_state(self, name: str) -> str:
        """Return the state of a node, such as ``IDLE``; ``DOWN*`` if it does not answer."""
        # sinfo would go on saying "mixed" after the last job has ended under a restarted slurmctld
        line = self.run("scontrol", "show", "node", "-o", name)
        return line.split(" State=")[1].split()[0]

    def processes(self, job_id: int) -> list[int]:
        """Return the processes of a job, orphans too."""
        wanted = str(job_id)
        return [process.pid for process, env in self._ours() if env.get("SLURM_JOB_ID") == wanted]

    def log_tails(self) -> str:
        """Return the ends of all logs, for messages."""
        files = sorted((self.root / "log").iterdir())
        # what a daemon prints is the same as its log, if it got as far as having one
        return "\n".join(_tail(f) for f in files if f.suffix == ".log" or not _log_of(f).exists())

    def wait(
        self, predicate: Callable[[], T], seconds: float = 60, what: str = "what is waited for"
    ) -> T:
        """Wait until something is true, and return it; fail with the queue and the logs."""
        deadline = time.monotonic() + seconds
        while not (result := predicate()):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{what}: not in {seconds} s\n{self._queue_text()}\n{self.log_tails()}"
                )
            time.sleep(0.1)
        return result

    def wait_for_state(self, job_id: int, *states: str, seconds: float = 60) -> str:
        """Wait until a job is in one of these states; return which."""
        return self.wait(
            lambda: next((s for s in states if s == self.state(job_id)), ""),
            seconds,
            f"job {job_id} {' or '.join(states)}",
        )

    def _queue_text(self) -> str:
        try:
            return "\n".join(map(str, self.queue()))
        except (MiniSlurmError, subprocess.TimeoutExpired) as error:
            return f"no queue: {error}"

    # -- faults ------------------------------------------------------------------------------------

    def kill_node(self, name: str) -> None:
        """Kill everything on a node at once, as when a machine loses power.

        The controller notices within about 15 seconds, or with `declare_down`.
        """
        self._kill(lambda env: env.get("SLURMD_NODENAME") == name)
        self._daemons[f"slurmd.{name}"].wait()

    def declare_down(self, name: str) -> None:
        """Have the controller take a node for lost now; its jobs fail or are requeued."""
        self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=lost")

    def revive_node(self, name: str) -> None:
        """Start a node that was killed, and wait until it takes jobs."""
        self._start_node(name)
        self._await_nodes(name)

    def stop_controller(self) -> None:
        """Stop slurmctld; jobs go on, and commands get no answer."""
        self._daemons["slurmctld"].terminate()
        self._daemons["slurmctld"].wait(timeout=START_SECONDS)

    def start_controller(self) -> None:
        """Start slurmctld with the jobs it knew; wait until the nodes that live take jobs."""
        self._start_controller()
        self._await_nodes(*(name for name in self.nodes if self._alive(f"slurmd.{name}")))

    def _alive(self, daemon: str) -> bool:
        return self._daemons[daemon].poll() is None

    # -- the end of a test -------------------------------------------------------------------------

    def cancel_all(self) -> None:
        """Cancel all jobs; wait until nothing is left of them and all living nodes are idle."""
        if self.queue():
            self.run("scancel", "--quiet", *(str(job.id) for job in self.queue()))
        self.wait(lambda: not self.queue(), what="an empty queue")
        self._kill(lambda env: "SLURM_JOB_ID" in env)
        living = [name for name in self.nodes if self._alive(f"slurmd.{name}")]
        self.wait(
            lambda: all(self.node_state(name) == "IDLE" for name in living), what="idle nodes"
        )

    def restore(self) -> None:
        """Make the cluster as it was at the start: controller and nodes up, no job."""
        if not self._alive("slurmctld"):
            self.start_controller()
        for name in self.nodes:
            if not self._alive(f"slurmd.{name}"):
                self.revive_node(name)
            if re.search("DOWN|DRAIN", self.node_state(name)):
                self.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
        self.cancel_all()

    # -- processes ---------------------------------------------------------------------------------

    def _ours(self) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
        """Yield each process of this cluster with its environment."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                env = self._step_daemon(process) or process.environ()
                if env.get("SLURM_CONF") == self.env["SLURM_CONF"] and process.pid != os.getpid():
                    yield process, env

    def _step_daemon(self, process: psutil.Process) -> dict[str, str]:
        """Return what the environment of a slurmstepd was, before its title overwrote it."""
        if process.cwd() != str(self.root):
            return {}
        logs = {Path(file.path).name for file in process.open_files()}
        node = next((name for name in self.nodes if f"slurmd.{name}.log" in logs), "")
        return self._marks(node) if node else {}

    def _marks(self, node: str) -> dict[str, str]:
        return {"SLURM_CONF": self.env["SLURM_CONF"], "SLURMD_NODENAME": node}

    def _kill(self, chosen: Callable[[dict[str, str]], bool]) -> None:
        """Kill processes of this cluster, until none is left of those that they have started."""
        while victims := [process for process, env in self._ours() if chosen(env)]:
            for process in victims:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.01)


@contextmanager
def mini_slurm(
    nodes: int = 3, cpus: int = 4, memory_mib: int = 16000, node_timeout: int = 6
) -> Iterator[MiniSlurm]:
    """Bring up a SLURM, and take it down.

    Parameters
    ----------
    nodes : int
        How many virtual nodes.
    cpus, memory_mib : int
        What each of them claims to have.
    node_timeout : int
        Seconds of silence after which the controller gives up a node.

    Raises
    ------
    MiniSlurmError
        If a daemon does not come up, with the ends of all logs.
    """
    # in /tmp whatever TMPDIR says: the path of a socket has 107 bytes at most
    root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    slurm = MiniSlurm(root, nodes, cpus, memory_mib, node_timeout)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.close()
        shutil.rmtree(root)

"""The batch scripts of a run, as text: what a job asks SLURM for, and how its Python starts.

Three kinds of job have one form::

    #SBATCH lines     what the YAML says under `cluster`, and what the plan needs
    set-up            modules, prologue
    one command       the driver (`denoise5d run`), or a worker (dask)

Values of the YAML are quoted for whoever reads them: sbatch, or the shell. Only the prologue is
shell text.
"""

from __future__ import annotations

import re
import shlex
import sys
from importlib.resources import files
from math import ceil
from pathlib import Path

from denoise5d.budget import DRIVER_BYTES, WORKER_HEADROOM_BYTES
from denoise5d.config import BatchConfig, Config
from denoise5d.errors import ClusterError
from denoise5d.ledger import run_folder
from denoise5d.machine import GIB
from denoise5d.plan import Plan

JOB_NAME = "denoise5d"
_DRIVER_CPUS = 2

_SHORT = {
    "-A": "--account",
    "-C": "--constraint",
    "-J": "--job-name",
    "-N": "--nodes",
    "-c": "--cpus-per-task",
    "-o": "--output",
    "-p": "--partition",
    "-q": "--qos",
    "-t": "--time",
}

_MARK = "# Whatever makes the command known goes here: module load ..., source .../bin/activate\n"
_COMMAND = "exec denoise5d run"


def log_folder(config: Config) -> Path:
    """Return where the jobs of a run write what they print."""
    own = config.cluster.batch.log_folder if config.cluster.batch else None
    return own or run_folder(config.output.path) / "logs"


def worker_gib(plan: Plan) -> int:
    """Return the memory in GiB that a worker's job asks for: the plan's and its helpers'."""
    return ceil((plan.bytes_per_worker + WORKER_HEADROOM_BYTES) / GIB)


def job_gib(config: Config, plan: Plan) -> int:
    """Return the memory in GiB that the job of a worker asks for, or an allocation on each node."""
    return worker_gib(plan) + (DRIVER_BYTES // GIB if config.cluster.kind == "allocation" else 0)


def worker_directives(config: Config, plan: Plan) -> list[str]:
    """Return the options of sbatch for one worker of kind ``slurm``."""
    return _directives(
        config,
        name=f"{JOB_NAME}-worker",
        nodes=1,
        cpus=plan.budget.threads,
        gib=worker_gib(plan),
        log="worker",
        more=[*_exclusive(config), "--no-requeue"],  # the driver replaces it
    )


def setup_lines(batch: BatchConfig) -> list[str]:
    """Return the shell lines that come before Python: the only shell text of the YAML."""
    lines = []
    if batch.modules:
        # Batch shells do not always know the command.
        lines.append("type module > /dev/null 2>&1 || . /etc/profile.d/modules.sh")
        lines += [f"module load {shlex.quote(module)} || exit 1" for module in batch.modules]
    # In one piece: dask-jobqueue would leave out empty lines, which may be part of a text.
    return [*lines, batch.prologue.rstrip("\n")] if batch.prologue else lines


def python(batch: BatchConfig) -> str:
    """Return the Python of the jobs, quoted for a shell."""
    return shlex.quote(batch.python or sys.executable)


def driver_directives(config: Config, plan: Plan) -> list[str]:
    """Return the options of sbatch for the driver; in an allocation for all of its nodes."""
    batch = config.cluster.batch
    assert batch is not None
    more = [f"--signal=B:USR1@{batch.signal_lead}"]
    nodes, cpus, gib = 1, _DRIVER_CPUS, DRIVER_BYTES // GIB
    if config.cluster.kind == "allocation":
        nodes, cpus, gib = batch.count, plan.budget.threads, job_gib(config, plan)
        # A node that fails takes its worker along, not the whole job.
        more = [*_exclusive(config), *more, "--no-kill"]
    if batch.mail_user and batch.mail_type:
        more += [f"--mail-user={batch.mail_user}", f"--mail-type={','.join(batch.mail_type)}"]
    return _directives(
        config, name=JOB_NAME, nodes=nodes, cpus=cpus, gib=gib, log="driver", more=more
    )


def driver_script(config: Config, plan: Plan) -> str:
    """Return the script that `submit` hands to sbatch: that in ``slurm/``, with what the YAML says.

    Its arguments are those of `denoise5d run`.
    """
    batch = config.cluster.batch
    assert batch is not None
    name = "allocation.sbatch" if config.cluster.kind == "allocation" else "driver.sbatch"
    header = "".join(f"#SBATCH {line}\n" for line in driver_directives(config, plan))
    text = files("denoise5d").joinpath("slurm", name).read_text()
    before, _, after = re.split(r"((?:#SBATCH .*\n)+)", text, maxsplit=1)
    setup = "".join(f"{line}\n" for line in setup_lines(batch))
    after = after.replace(_COMMAND, f"exec {python(batch)} -m denoise5d run")
    return before + header + after.replace(_MARK, setup)  # last: a prologue stays as it is


def _directives(
    config: Config, *, name: str, nodes: int, cpus: int, gib: int, log: str, more: list[str]
) -> list[str]:
    batch = config.cluster.batch
    assert batch is not None
    asked = {
        "partition": batch.partition,
        "account": batch.account,
        "qos": batch.qos,
        "constraint": batch.constraint,
        "reservation": batch.reservation,
    }
    lines = [
        f"--job-name={name}",
        *[f"--{option}={value}" for option, value in asked.items() if value],
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus}",
        *_memory(batch, gib, cpus),
        f"--time={walltime(batch.walltime)}",
        f"--output={_for_sbatch(_log_name(config, log))}",
        *more,
    ]
    return [*_without(lines, batch.removed_directives), *batch.extra_directives]


def _log_name(config: Config, log: str) -> str:
    """Return where a job prints to, as a pattern of SLURM's; it writes no backslash and no line."""
    folder = str(log_folder(config))
    if "\\" in folder or "\n" in folder:
        raise ClusterError(
            f"SLURM cannot write into folders with a backslash or a line break in their name, got "
            f"{folder!r}; give another cluster.log_folder"
        )
    return f"{folder.replace('%', '%%')}/{log}-%j.log"


def _exclusive(config: Config) -> list[str]:
    return ["--exclusive"] if config.cluster.batch and config.cluster.batch.exclusive else []


def _memory(batch: BatchConfig, gib: int, cpus: int) -> list[str]:
    if batch.memory_request == "none":
        return []
    if batch.memory_request == "mem":
        return [f"--mem={gib}G"]
    return [f"--mem-per-cpu={ceil(1024 * gib / cpus)}M"]


def _without(lines: list[str], names: tuple[str, ...]) -> list[str]:
    removed = {_SHORT.get(name, name) for name in names}
    return [line for line in lines if line.partition("=")[0] not in removed]


def walltime(seconds: int) -> str:
    """Write a time as sbatch takes it: ``1-12:00:00``."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def _for_sbatch(text: str) -> str:
    """Quote a text for an #SBATCH line: sbatch knows double quotes and backslashes."""
    if re.fullmatch(r"[\w%+,./:=@-]+", text, re.ASCII):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'

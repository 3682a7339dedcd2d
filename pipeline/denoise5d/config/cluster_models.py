"""The keys of `cluster`: this machine, or what SLURM is asked for.

Names, constraints and folders are checked so that none can reach beyond its place in a batch
script (`cluster_fields`); which keys go with which kind is checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from denoise5d.config.cluster_fields import (
    Constraint,
    Directive,
    DirectiveName,
    Lead,
    LogPath,
    MailType,
    Module,
    Name,
    NodePath,
    Port,
    Ports,
    ShellText,
    Walltime,
    seconds,
)
from denoise5d.config.fields import (
    AutoCount,
    AutoMemory,
    Count,
    HostPort,
    RuleBroken,
    Section,
    broken_rules,
)

_EVERY_KIND = {"kind", "cpus", "memory", "dashboard"}
_ONE_KIND = {"workers": "local", "jobs": "slurm", "nodes": "allocation"}
"""Kinds by the key that counts their workers."""


class ClusterModel(Section):
    """Where the work is done: on this machine, or on the nodes of a SLURM cluster."""

    kind: Literal["local", "slurm", "allocation"] = Field(
        default="local",
        description="Where to compute. local: on the machine where the command is started. slurm: "
        "on a cluster that runs SLURM; a small job submits further jobs, each of which works on "
        "one block at a time, and they start as nodes become free. allocation: on such a cluster, "
        "too, but as one job of several nodes that start together.",
        examples=["local", "slurm", "allocation"],
    )
    workers: AutoCount = Field(
        default="auto",
        description="How many blocks are worked on at the same time, each by a process of its "
        "own. Only kind: local; the others have jobs or nodes.",
        examples=["auto", 2],
    )
    jobs: Count = Field(
        default=1,
        description="How many worker jobs run at the same time, one block at a time each. "
        "Only kind: slurm.",
        examples=[4],
    )
    nodes: Count = Field(
        default=1,
        description="How many nodes the one job asks for, one block at a time on each; --nodes of "
        "sbatch. Only kind: allocation.",
        examples=[4],
    )
    cpus: AutoCount = Field(
        default="auto",
        description="How many processor cores each worker uses. On SLURM also what its job asks "
        "for (--cpus-per-task); give what a node has, CPUS in the output of `sinfo -N -l`.",
        examples=["auto", 4],
    )
    memory: AutoMemory = Field(
        default="auto",
        description="Memory that each worker may use, in GiB. auto: 80 % of what the machine has, "
        "shared out. On SLURM the most that the job of a worker may ask for: somewhat less than a "
        "node has (MEMORY in the output of `sinfo -N -l`, there in MiB); auto: what the plan "
        "needs.",
        examples=["auto", 32],
    )
    dashboard: HostPort | None = Field(
        default=None,
        description="host:port of a web page that shows the workers at work; localhost:8787 is "
        "seen from the driver's machine only. null: no page.",
        examples=["localhost:8787"],
    )
    walltime: Walltime | None = Field(
        default=None,
        description="Longest time of a job, in quotes: hours:minutes:seconds, or with days before "
        "it. SLURM ends the job after it; shorter jobs often start sooner. The limit is TIMELIMIT "
        "in the output of `sinfo`. Required on SLURM.",
        examples=["12:00:00", "1-12:00:00"],
    )
    partition: Name | None = Field(
        default=None,
        description="Which group of nodes to use: PARTITION in the output of `sinfo` without the "
        "*; your site may call it queue. null: the site's default.",
        examples=["icelake"],
    )
    account: Name | None = Field(
        default=None,
        description="Which project the time is charged to; your site's documentation says what "
        "it is called, often project or budget. null: your default account.",
        examples=["MYLAB-CPU"],
    )
    qos: Name | None = Field(
        default=None,
        description="Quality of service: a class of jobs with limits and a priority of its own. "
        "Only where your site's documentation names one.",
        examples=["normal"],
    )
    constraint: Constraint | None = Field(
        default=None,
        description="Features that a node must have, as AVAIL_FEATURES in the output of "
        "`sinfo -o '%N %f'`: one, both (a&b), or all nodes alike (in quotes: '[a|b]').",
        examples=["icelake", "[rack1|rack2]"],
    )
    reservation: Name | None = Field(
        default=None,
        description="Name of nodes that were set aside for you, as for a course; "
        "`scontrol show reservation` lists them.",
        examples=["course2026"],
    )
    memory_request: Literal["mem", "mem-per-cpu", "none"] = Field(
        default="mem",
        description="How a job asks for its memory. mem: for the node (--mem). mem-per-cpu: for "
        "each core (--mem-per-cpu). none: not at all, for sites that refuse both and give memory "
        "along with the cores.",
        examples=["mem"],
    )
    exclusive: bool = Field(
        default=False,
        description="true: no other job on the nodes of yours (--exclusive). You pay for the "
        "whole node, so give cpus and memory that use it.",
        examples=[True],
    )
    interface: Name | None = Field(
        default=None,
        description="Network of the cluster by which the processes talk to each other; "
        "`ip -brief address` on a node lists them, and ib0 often is the fast one. "
        "null: that of the node's name, which mostly is right.",
        examples=["ib0"],
    )
    scheduler_port: Port = Field(
        default=0,
        description="Port on which the workers reach the driver, where a firewall leaves open "
        "only some. 0: any that is free.",
        examples=[8786],
    )
    worker_ports: Ports | None = Field(
        default=None,
        description="First and last port on which workers are reached, where a firewall leaves "
        "open only some. null: any that is free.",
        examples=["9000:9100"],
    )
    local_folder: NodePath | None = Field(
        default=None,
        description="Folder on the own disk of each node, for small temporary files: an absolute "
        "path. null: TMPDIR as the node sets it.",
        examples=["/local/scratch"],
    )
    log_folder: LogPath | None = Field(
        default=None,
        description="Folder for what the jobs print. A path that is not absolute starts at the "
        "folder of this YAML file. null: beside the output.",
        examples=["logs"],
    )
    modules: tuple[Module, ...] | None = Field(
        default=None,
        description="Modules that each job loads (module load) before Python starts: those that "
        "were loaded when denoise5d was installed. `module list` shows them.",
        examples=[["rhel8/default-icl"]],
    )
    prologue: ShellText = Field(
        default=None,
        description="Shell commands run at the start of each job, after the modules and before "
        "Python; text of several lines (|), or a list of lines.",
        examples=["ulimit -n 4096", ["ulimit -n 4096", "export TMPDIR=/local/scratch"]],
    )
    python: NodePath | None = Field(
        default=None,
        description="Python that the jobs start, an absolute path as the nodes see it. null: the "
        "one that submits.",
        examples=["~/denoise5d-env/bin/python"],
    )
    extra_directives: tuple[Directive, ...] | None = Field(
        default=None,
        description="Further options of sbatch that each job asks for, as your site wants them.",
        examples=[["--gres=gpu:1"]],
    )
    removed_directives: tuple[DirectiveName, ...] | None = Field(
        default=None,
        description="Options of sbatch that your site refuses, by name: the jobs are submitted "
        "without them.",
        examples=[["--mem"]],
    )
    mail_user: Name | None = Field(
        default=None,
        description="Address that SLURM writes to about the job. null: no mail.",
        examples=["me@example.org"],
    )
    mail_type: tuple[MailType, ...] | None = Field(
        default=None,
        description="What SLURM writes about. null: the end and a failure, if there is mail_user.",
        examples=[["END", "FAIL"]],
    )
    signal_lead: Lead = Field(
        default=300,
        description="Seconds before the end of its time at which the driver is warned: it begins "
        "no new block, and finishes those in work as far as time allows.",
        examples=[300],
    )
    until: Literal["done", "walltime"] = Field(
        default="walltime",
        description="What `denoise5d submit` asks for. walltime: one job, at the end of which you "
        "submit again. done: a job that ends before the work does is followed by another.",
        examples=["done"],
    )

    @model_validator(mode="after")
    def _rules(self) -> ClusterModel:
        if broken := [*self._misplaced(), *self._times(), *self._mail()]:
            raise broken_rules(broken)
        return self

    def _misplaced(self) -> Iterator[RuleBroken]:
        """Yield the keys that are given but belong to another kind."""
        is_kind = f"kind is {self.kind}" + ("" if "kind" in self.model_fields_set else " (default)")
        for key in sorted(self.model_fields_set - _EVERY_KIND):
            if getattr(self, key) is None or _ONE_KIND.get(key) == self.kind:
                continue
            own = next(name for name, kind in _ONE_KIND.items() if kind == self.kind)
            if key in _ONE_KIND:
                advice = f"give {own}, or change the kind"
                yield (key,), f"belongs to kind: {_ONE_KIND[key]}, but {is_kind}; {advice}"
            elif self.kind == "local":
                advice = "give that kind, or remove the key"
                yield (key,), f"belongs to kind: slurm or allocation, but {is_kind}; {advice}"

    def _times(self) -> Iterator[RuleBroken]:
        if self.kind == "local":
            return
        if self.walltime is None:
            advice = 'give the longest time of a job in quotes, such as "12:00:00"'
            yield ("walltime",), f"is missing, kind: {self.kind} needs it; {advice}"
        elif self.signal_lead >= (limit := seconds(self.walltime)):
            if "signal_lead" in self.model_fields_set:
                rule = f"must be less than cluster.walltime, which is {limit} seconds"
                yield ("signal_lead",), f"{rule}; give fewer seconds, or a longer walltime"
            else:
                rule = f"must be longer than cluster.signal_lead, {self.signal_lead} seconds"
                yield ("walltime",), f"{rule} by default; give more time, or a signal_lead"

    def _mail(self) -> Iterator[RuleBroken]:
        if self.mail_type and self.mail_user is None and self.kind != "local":
            yield ("mail_user",), "is missing, mail_type needs it; give the address, or neither"

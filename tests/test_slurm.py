"""What is understood of what SLURM's commands say; the commands are shell scripts of the tests."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import pytest

from denoise5d import slurm
from denoise5d.config.models import SECTIONS
from denoise5d.errors import ClusterError
from denoise5d.machine import Machine
from denoise5d.slurm import Silent
from denoise5d.slurm_words import NEVER, Ending, QueuedJob, never_starts, refusal_words
from fake_slurm import FakeSlurm

UNKNOWN = "slurm_load_jobs error: Invalid job id specified"
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"

# as scontrol of SLURM 22.05 writes it, less a few fields
SHOWN = (
    "JobId=7 JobName=denoise5d-worker UserId=me(1000) GroupId=me(1000) MCS_label=N/A Priority=1 "
    "Nice=0 Account=(null) QOS=normal JobState={state} Reason={reason} Dependency=(null) Requeue=0 "
    "Restarts=0 BatchFlag=1 Reboot=0 ExitCode={code} RunTime=00:00:07 TimeLimit=00:05:00 "
    "SubmitTime=2026-01-02T03:04:05 EligibleTime=2026-01-02T03:04:05 StartTime=2026-01-02T03:04:06 "
    "EndTime={end} Deadline=N/A Partition=main AllocNode:Sid=login:1 ReqNodeList=node8 "
    "ExcNodeList=node9 NodeList={nodes} BatchHost=node1 NumNodes=1 NumCPUs=1 "
    "TRES=cpu=1,mem=4G,node=1,billing=1 Command=/home/me/my run/x.sbatch WorkDir=/home/me\n"
)


def shown(
    state: str,
    reason: str = "None",
    code: str = "0:0",
    nodes: str = "node1",
    end: str = "2026-01-02T03:04:13",
) -> str:
    return SHOWN.format(state=state, reason=reason, code=code, nodes=nodes, end=end)


def keys_named(words: str) -> set[str]:
    """Return the keys of the YAML that a message names, all of which exist."""
    found = set(re.findall(r"\b(\w+\.\w+)\b", words))
    for section, key in (name.split(".") for name in found):
        assert key in SECTIONS[(section,)].model_fields, words
    return found


# -- queue ---------------------------------------------------------------------------------------


def test_a_users_own_taste_hides_no_jobs(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SQUEUE_PARTITION`, say, would make all jobs of others look as if they had ended."""
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    fake.runs("squeue", 'echo "7|RUNNING|$SQUEUE_PARTITION$SLURM_TIME_FORMAT|node1|denoise5d"')
    assert slurm.queue()["7"].reason == ""


def test_queue(fake: FakeSlurm) -> None:
    down = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority"
    fake.says(
        "squeue",
        "7|RUNNING|None|node[1-3,7]|denoise5d\n"
        "8|PENDING|ReqNodeNotAvail, UnavailableNodes:node[1-3]||denoise5d-worker\n"
        f"9|PENDING|({down})||a name | with | pipes\n"
        "10_[1-4]|PENDING|Priority||array\n"
        "\nslurm says something else\n",
    )
    assert slurm.queue() == {
        "7": QueuedJob("7", "denoise5d", "RUNNING", "None", "node[1-3,7]"),
        "8": QueuedJob(
            "8", "denoise5d-worker", "PENDING", "ReqNodeNotAvail, UnavailableNodes:node[1-3]", ""
        ),
        "9": QueuedJob("9", "a name | with | pipes", "PENDING", f"({down})", ""),
        "10_[1-4]": QueuedJob("10_[1-4]", "array", "PENDING", "Priority", ""),
    }
    (call,) = fake.calls()
    assert f"--user={os.getuid()}" in call  # other people's jobs are none of ours


def test_an_empty_queue(fake: FakeSlurm) -> None:
    fake.says("squeue")
    assert slurm.queue() == {}


def test_a_controller_that_is_down_says_nothing_of_jobs(fake: FakeSlurm) -> None:
    for command in ("squeue", "scontrol", "scancel", "sinfo"):
        fake.says(command, error=DOWN, code=1)
    for ask in (slurm.queue, lambda: slurm.ending("7"), lambda: slurm.cancel(["7"])):
        with pytest.raises(Silent, match="Unable to contact slurm controller"):
            ask()
    assert slurm.wait_for_ending("7", 60) is None
    assert slurm.smallest_node("main") is None


def test_commands_that_say_nothing_at_all(
    fake: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Silent, match="No such file"):
        slurm.queue()
    fake.says("squeue", code=3)
    with pytest.raises(Silent, match="squeue ended with 3"):
        slurm.queue()
    monkeypatch.setattr(slurm, "_SECONDS", 0.1)
    fake.hangs("squeue")
    with pytest.raises(Silent, match="timed out"):
        slurm.queue()


# -- endings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "innocent"),
    [
        ("BOOT_FAIL", True),
        ("CANCELLED", True),
        ("COMPLETED", False),
        ("DEADLINE", False),
        ("FAILED", False),
        ("NODE_FAIL", True),
        ("OUT_OF_MEMORY", False),
        ("PREEMPTED", True),
        ("REVOKED", True),
    ],
)
def test_a_job_that_has_ended(fake: FakeSlurm, state: str, innocent: bool) -> None:
    fake.says("scontrol", shown(state, code="3:0", nodes="node[1-2]"))
    found = slurm.ending("7")
    assert found == Ending(state, "None", 3, 0, "node[1-2]")
    assert found.innocent is innocent
    assert found.out_of_memory is (state == "OUT_OF_MEMORY")
    assert state in str(found)
    assert keys_named(str(found)) == ({"blocks.memory_factor"} if found.out_of_memory else set())


def test_the_end_of_its_time_names_the_walltime(fake: FakeSlurm) -> None:
    fake.says("scontrol", shown("TIMEOUT", "TimeLimit", "0:15"))
    found = slurm.ending("7")
    assert found == Ending("TIMEOUT", "TimeLimit", 0, 15, "node1")
    assert keys_named(str(found)) == {"cluster.walltime"}


@pytest.mark.parametrize(
    ("reason", "code", "memory"),
    [
        ("JobLaunchFailure", "0:9", True),  # without control groups
        ("JobLaunchFailure", "1:0", False),
        ("NonZeroExitCode", "0:9", False),
        ("NonZeroExitCode", "127:0", False),
    ],
)
def test_killed_for_its_memory_or_not(
    fake: FakeSlurm,
    reason: str,
    code: str,
    memory: bool,
) -> None:
    fake.says("scontrol", shown("FAILED", reason, code))
    found = slurm.ending("7")
    assert found is not None
    assert found.out_of_memory is memory
    assert not found.innocent
    if memory:
        assert "killed it for its memory on node1" in str(found)
        assert keys_named(str(found)) == {"blocks.memory_factor"}
    else:
        assert f"exit code {code.split(':')[0]}" in str(found)
        assert ("signal 9" in str(found)) == code.endswith(":9")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING"])
def test_a_job_that_has_not_ended(fake: FakeSlurm, state: str) -> None:
    fake.says("scontrol", shown(state, "Priority", nodes="(null)"))
    assert slurm.ending("7") is None


def test_a_job_that_never_had_a_node(fake: FakeSlurm) -> None:
    fake.says("scontrol", shown("CANCELLED", nodes="(null)"))
    found = slurm.ending("7")
    assert found is not None
    assert found.nodes == ""
    assert str(found) == "it was cancelled (CANCELLED)"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("CANCELLED by 1000|None|0:0|None assigned", Ending("CANCELLED", "None", 0, 0, "")),
        ("OUT_OF_MEMORY|None|0:125|node1", Ending("OUT_OF_MEMORY", "None", 0, 125, "node1")),
        ("FAILED|JobLaunchFailure|0:9|n1\nFAILED||1:0|n2", Ending("FAILED", "JobLaunchFailure",
                                                                   0, 9, "n1")),
        ("RUNNING|None|0:0|node1", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_scontrol_has_forgotten_the_accounting_may_know(
    fake: FakeSlurm,
    line: str,
    expected: Ending | None,
) -> None:
    fake.says("scontrol", error=UNKNOWN, code=1)
    fake.says("sacct", line and line + "\n")
    assert slurm.ending("7") == expected
    assert [call.split()[0] for call in fake.calls()] == ["scontrol", "sacct"]
    assert "-j 7" in fake.calls()[1]


def test_the_accounting_is_not_asked_when_the_controller_is_down(
    fake: FakeSlurm,
) -> None:
    fake.says("scontrol", error=DOWN, code=1)
    fake.says("sacct", "FAILED|None|1:0|node1\n")
    with pytest.raises(Silent):
        slurm.ending("7")


def test_an_ending_may_be_late(fake: FakeSlurm) -> None:
    fake.says("scontrol", shown("RUNNING"))
    assert slurm.wait_for_ending("7", 0) is None
    fake.says("scontrol", shown("NODE_FAIL"))
    found = slurm.wait_for_ending("7", 60)
    assert found is not None
    assert str(found) == "its node failed on node1 (NODE_FAIL)"


# -- reasons and refusals --------------------------------------------------------------------------


def pending(reason: str, state: str = "PENDING") -> QueuedJob:
    return QueuedJob("7", "denoise5d-worker", state, reason, "")


@pytest.mark.parametrize(("reason", "key"), NEVER.items())
def test_a_reason_for_which_a_job_never_starts(reason: str, key: str) -> None:
    for written in (reason, f"({reason})", reason.replace("_", " ")):
        words = never_starts(pending(written))
        assert words is not None
        assert written in words
        assert keys_named(words) == ({f"cluster.{key}"} if key else set())
        assert key or "`scontrol release 7`" in words
    assert never_starts(pending(reason, "RUNNING")) is None


@pytest.mark.parametrize(
    "reason",
    [
        "Priority", "Resources", "None", "", "Dependency", "BeginTime", "QOSMaxJobsPerUserLimit",
        "QOSGrpNodeLimit", "AssocGrpCPUMinutesLimit", "QOSMaxCpuPerUserLimit", "Reservation",
        "ReqNodeNotAvail, UnavailableNodes:node1",
        "(Nodes required for job are DOWN, DRAINED or reserved)",
    ],
)  # fmt: skip
def test_a_reason_that_passes(reason: str) -> None:
    assert never_starts(pending(reason)) is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Batch job submission failed: Invalid partition specified", "partition"),
        ("invalid partition specified: foo", "partition"),
        ("Batch job submission failed: Invalid partition name specified", "partition"),
        ("Batch job submission failed: Requested time limit is invalid (missing or exceeds some "
         "limit)", "walltime"),
        ("Batch job submission failed: Invalid qos specification", "qos"),
        ("Batch job submission failed: Invalid feature specification", "constraint"),
        ("Batch job submission failed: Requested reservation is invalid", "reservation"),
        ("Batch job submission failed: Access denied to requested reservation", "reservation"),
        ("Batch job submission failed: Memory specification can not be satisfied", "memory"),
        ("Batch job submission failed: CPU count per node can not be satisfied", "cpus"),
        ("Batch job submission failed: Requested node configuration is not available", "cpus"),
        ("Batch job submission failed: Node count specification invalid", "nodes"),
        ("Batch job submission failed: Invalid account or account/partition combination specified",
         "account"),
        ("lua: Requesting memory by node is not supported. Use --mem-per-cpu.", "memory_request"),
    ],
)  # fmt: skip
def test_a_refusal_names_its_key(fake: FakeSlurm, text: str, key: str) -> None:
    fake.says("sbatch", error=f"sbatch: error: {text}\n", code=1)
    with pytest.raises(ClusterError) as caught:
        slurm.submit(Path("a.sbatch"))
    words = str(caught.value)
    assert text in words
    named = keys_named(words)
    assert f"cluster.{key}" in named
    assert len(named) == 1 or "node" in text.lower()  # what a node has is asked for by three keys


def test_an_option_that_sbatch_does_not_know() -> None:
    text = "sbatch: unrecognized option '--foo'\nTry \"sbatch --help\" for more information\n"
    words = refusal_words(text)
    assert "'--foo'" in words
    assert keys_named(words) == {"cluster.extra_directives"}


def test_the_last_of_several_errors_is_told() -> None:
    words = refusal_words(
        "sbatch: error: lua: hello\nsbatch: error: Batch job submission failed: Unspecified error\n"
    )
    assert "(sbatch: error: Batch job submission failed: Unspecified error)" in words
    assert "`denoise5d plan` shows the batch script" in words


# -- submit and cancel -----------------------------------------------------------------------------


def test_submit(fake: FakeSlurm) -> None:
    assert not slurm.is_here()
    fake.says("sbatch", "77;cluster\n")
    assert slurm.is_here()
    assert slurm.submit(Path("/a b/c.sbatch"), ["my.yaml", "--chain", "3"]) == "77"
    assert slurm.submit(Path("c.sbatch"), after="76") == "77"
    assert fake.calls() == [
        "sbatch --parsable /a b/c.sbatch my.yaml --chain 3",
        "sbatch --parsable --dependency=afterany:76 c.sbatch",
    ]


def test_cancel_does_without_jobs_that_are_gone(fake: FakeSlurm) -> None:
    error = "scancel: error: Kill job error on job id 7: Invalid job id specified"
    fake.says("scancel", error=error, code=1)
    slurm.cancel(["7", "8"])
    assert fake.calls() == ["scancel 7", "scancel 8"]


# -- inside a job ----------------------------------------------------------------------------------


def test_the_end_of_this_job(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.job_end() is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert slurm.job_end() is None  # no scontrol
    fake.says("scontrol", shown("RUNNING"))
    assert slurm.job_end() == datetime(2026, 1, 2, 3, 4, 13).timestamp()
    fake.says("scontrol", shown("RUNNING", end="Unknown"))
    assert slurm.job_end() is None
    fake.says("scontrol", error=DOWN, code=1)
    assert slurm.job_end() is None
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1767323053")
    assert slurm.job_end() == 1767323053


def test_the_nodes_of_this_job(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-2]")
    fake.says("scontrol", "node1\nnode2\n")
    assert slurm.hosts() == ["node1", "node2"]
    assert fake.calls() == ["scontrol show hostnames node[1-2]"]


# -- nodes -----------------------------------------------------------------------------------------


def test_the_smallest_node_of_a_partition(fake: FakeSlurm) -> None:
    assert slurm.smallest_node("main") is None  # no sinfo
    fake.says("sinfo", "main|76|257000\nmain|76+|386000+\nmain|112|256000\n\n")
    assert slurm.smallest_node("main") == Machine(76, 256000 * 2**20)
    assert "--partition=main" in fake.calls()[-1]
    fake.says("sinfo")
    assert slurm.smallest_node("main") is None


def test_the_smallest_node_of_the_default_partition(fake: FakeSlurm) -> None:
    fake.says("sinfo", "debug|2|4000\nmain*|32|64000\nmain*|16|128000\n")
    assert slurm.smallest_node(None) == Machine(16, 64000 * 2**20)
    assert "--partition" not in fake.calls()[-1]
    fake.says("sinfo", "debug|2|4000\nmain|32|64000\n")
    assert slurm.smallest_node(None) is None  # no partition is the default one


def test_a_job_that_only_the_accounting_could_know(fake: FakeSlurm) -> None:
    """Without accounting sacct fails; that says nothing of the controller, which has answered."""
    fake.says("scontrol", error=UNKNOWN, code=1)
    fake.says("sacct", error="Slurm accounting storage is disabled", code=1)
    assert slurm.ending("7") is None


def test_a_path_is_no_state(fake: FakeSlurm) -> None:
    fake.says(
        "scontrol", shown("RUNNING").replace("WorkDir=/home/me", "WorkDir=/a JobState=FAILED")
    )
    assert slurm.ending("7") is None


def test_a_limit_that_may_be_one_of_three() -> None:
    text = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    named = keys_named(refusal_words(f"sbatch: error: Batch job submission failed: {text}"))
    assert named == {"cluster.jobs", "cluster.walltime", "cluster.qos"}

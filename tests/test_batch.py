"""Batch scripts as text: what is asked for, and that no value of the YAML says more than itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from denoise5d import batch
from denoise5d.batch import driver_script, job_gib, walltime, worker_directives, worker_gib
from denoise5d.budget import DRIVER_BYTES, WORKER_HEADROOM_BYTES, machine_of
from denoise5d.cluster import worker_script
from denoise5d.config import Config, load_config
from denoise5d.config.cluster_fields import Constraint, Directive, DirectiveName, Module, Name
from denoise5d.config.cluster_fields import seconds as seconds_of
from denoise5d.config.cluster_models import ClusterModel
from denoise5d.errors import ClusterError, ConfigError
from denoise5d.machine import GIB
from denoise5d.plan import Plan
from denoise5d.prepare import describe_input, prepare

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted((ROOT / "slurm").glob("*.sbatch"))
KINDS = ("slurm", "allocation")

Scripts = dict[str, str]


def write(folder: Path, kind: str = "slurm", *, output: str = "out.zarr", **keys: Any) -> Path:
    """Write the YAML of a run of 4 CPUs and at most 19 GiB a worker."""
    cluster = {"kind": kind, "walltime": "12:00:00", "cpus": 4, "memory": 19} | keys
    document = {
        "input": {"path": "in.zarr", "shape": [1, 1, 64, 512, 512], "dtype": "uint16"},
        "output": {"path": output},
        "blocks": {"shape": [1, 1, 64, 512, 512]},
        "cluster": {key: value for key, value in cluster.items() if value is not None},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def planned(config: Config) -> Plan:
    return prepare(config, describe_input(config), machine_of(config)).plan


def scripts(config: Config, plan: Plan | None = None) -> Scripts:
    """Return the scripts of a run: that of the driver, and with kind slurm that of a worker."""
    plan = plan or planned(config)
    found = {"driver": driver_script(config, plan)}
    if config.cluster.kind == "slurm":
        found["worker"] = worker_script(config, plan)
    return found


def of(folder: Path, kind: str = "slurm", **keys: Any) -> Scripts:
    return scripts(load_config(write(folder, kind, **keys)))


def options(script: str) -> list[str]:
    """Return the options as sbatch reads them: lines up to the first that is no comment."""
    found = []
    for line in script.split("\n"):
        if line.startswith("#SBATCH "):
            found += words_of_sbatch(line.removeprefix("#SBATCH "))
        elif line.strip() and not line.startswith("#"):
            break
    return found


def words_of_sbatch(line: str) -> list[str]:
    """Split a line as sbatch does: quotes of both kinds, backslashes also within them, comments."""
    words, word, quote, escaped = [], "", "", False
    begun = False
    for char in line + " ":
        if escaped:
            word, escaped = word + char, False
        elif char == "\\":
            escaped = begun = True
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "\"'":
            quote, begun = char, True
        elif char.isspace():
            words += [word] if begun else []
            word, begun = "", False
        elif char == "#" and not begun:
            break
        else:
            word, begun = word + char, True
    assert not quote
    return words


def rest(script: str) -> list[str]:
    """Return all lines but those for sbatch."""
    return [line for line in script.split("\n") if not line.startswith("#SBATCH ")]


def command(script: str) -> list[str]:
    """Return the words of the last command as bash itself reads them."""
    *before, last = script.rstrip("\n").split("\n")
    shown = "printf '%s\\0' " + last.removeprefix("exec ")
    exports = [line for line in before if line.startswith("export DASK_CONFIG=")]
    text = "\n".join(["set -- 'an argument'", *exports, shown, "printf '%s' \"$DASK_CONFIG\""])
    done = subprocess.run(["/bin/bash", "-c", text], capture_output=True, check=True, env={})
    assert done.stderr == b""
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")


def syntax_is_right(script: str) -> None:
    done = subprocess.run(["/bin/bash", "-n"], input=script.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch")


# -- what is asked for -----------------------------------------------------------------------------


def test_the_worker_of_a_plain_yaml(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))
    plan = planned(config)
    assert worker_directives(config, plan) == [
        "--job-name=denoise5d-worker",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=4",
        f"--mem={worker_gib(plan)}G",
        "--time=12:00:00",
        f"--output={tmp_path}/out.zarr.denoise5d/logs/worker-%j.log",
        "--no-requeue",
    ]
    assert options(worker_script(config, plan)) == worker_directives(config, plan)


def test_the_drivers_of_a_plain_yaml(tmp_path: Path) -> None:
    log = f"--output={tmp_path}/out.zarr.denoise5d/logs/driver-%j.log"
    assert options(of(tmp_path, "slurm")["driver"]) == [
        "--job-name=denoise5d", "--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=2",
        "--mem=8G", "--time=12:00:00", log, "--signal=B:USR1@300",
    ]  # fmt: skip
    config = load_config(write(tmp_path, "allocation", nodes=3))
    plan = planned(config)
    assert options(driver_script(config, plan)) == [
        "--job-name=denoise5d", "--nodes=3", "--ntasks-per-node=1", "--cpus-per-task=4",
        f"--mem={worker_gib(plan) + DRIVER_BYTES // GIB}G", "--time=12:00:00", log,
        "--signal=B:USR1@300", "--no-kill",
    ]  # fmt: skip


BOTH, DRIVER, WORKER = {"driver", "worker"}, {"driver"}, {"worker"}
PLACES: dict[str, tuple[Any, set[str], set[str]]] = {
    # value; options that it adds, and to the jobs of which role with kind slurm
    "partition": ("icelake,sapphire", {"--partition=icelake,sapphire"}, BOTH),
    "account": ("MYLAB-CPU", {"--account=MYLAB-CPU"}, BOTH),
    "qos": ("intr", {"--qos=intr"}, BOTH),
    "constraint": ("[rack1*2|rack2&!b]", {"--constraint=[rack1*2|rack2&!b]"}, BOTH),
    "reservation": ("course", {"--reservation=course"}, BOTH),
    "walltime": ("1-06:30:05", {"--time=1-06:30:05"}, BOTH),
    "exclusive": (True, {"--exclusive"}, WORKER),  # the driver needs next to nothing
    "log_folder": ("/my logs/100%", {"--output=/my logs/100%%/{role}-%j.log"}, BOTH),
    "extra_directives": (["--gres=gpu:1", "-x node[1-3]", '--comment="my run"'],
                         {"--gres=gpu:1", "-x", "node[1-3]", "--comment=my run"}, BOTH),
    "mail_user": ("me@example.org", {"--mail-user=me@example.org", "--mail-type=END,FAIL"}, DRIVER),
    "signal_lead": (600, {"--signal=B:USR1@600"}, DRIVER),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("key", "place"), PLACES.items())
def test_a_key_becomes_an_option(
    tmp_path: Path, kind: str, key: str, place: tuple[Any, set[str], set[str]]
) -> None:
    value, added, roles = place
    for role, script in of(tmp_path, kind, **{key: value}).items():
        before = of(tmp_path, kind)[role]
        new = set(options(script)) - set(options(before))
        here = role in roles or kind == "allocation"  # workers are within the driver's job
        assert new == ({o.replace("{role}", role) for o in added} if here else set())
        assert rest(script) == rest(before)


def test_the_type_of_mail(tmp_path: Path) -> None:
    keys = {"mail_user": "me", "mail_type": ["TIME_LIMIT_80", "BEGIN"]}
    assert "--mail-type=TIME_LIMIT_80,BEGIN" in options(of(tmp_path, **keys)["driver"])
    silent = of(tmp_path, mail_user="me", mail_type=[])  # sbatch refuses an empty type
    assert silent == of(tmp_path)


def test_jobs_and_nodes(tmp_path: Path) -> None:
    many = load_config(write(tmp_path, jobs=7))
    assert scripts(many) == of(tmp_path)  # the driver submits one after the other
    assert planned(many).budget.workers == 7
    assert "--nodes=7" in options(of(tmp_path, "allocation", nodes=7)["driver"])


def test_cpus(tmp_path: Path) -> None:
    slurm = of(tmp_path, cpus=6)
    assert "--cpus-per-task=6" in options(slurm["worker"])
    assert "--cpus-per-task=2" in options(slurm["driver"])
    assert "--cpus-per-task=6" in options(of(tmp_path, "allocation", cpus=6)["driver"])


MODULE_COMMAND = "type module > /dev/null 2>&1 || . /etc/profile.d/modules.sh"


@pytest.mark.parametrize("kind", KINDS)
def test_modules_and_prologue_come_before_python(tmp_path: Path, kind: str) -> None:
    prologue = "ulimit -n 4096\n\n  exec denoise5d run 'a\u2028b'\n"
    found = of(tmp_path, kind, modules=["gcc/12", "python/3.11"], prologue=prologue)
    for role, script in found.items():
        lines = rest(script)
        at = lines.index(MODULE_COMMAND)
        assert lines[at + 1 : at + 6] == [
            "module load gcc/12 || exit 1",
            "module load python/3.11 || exit 1",
            *prologue.rstrip("\n").split("\n"),
        ]
        plain = of(tmp_path, kind)[role]
        assert lines[:at] + lines[at + 6 :] == rest(plain)
        assert command(script) == command(plain)
        assert len(lines) - at - 6 <= 5  # the command is not far
        syntax_is_right(script)


def test_without_modules_there_is_no_command_for_them(tmp_path: Path) -> None:
    for script in (*of(tmp_path).values(), *of(tmp_path, "allocation").values()):
        assert "module load" not in script
        assert "Whatever makes the command known" not in script


def test_python(tmp_path: Path) -> None:
    for kind in KINDS:
        own = of(tmp_path, kind, python="/my env/bin/python")
        for role, script in of(tmp_path, kind).items():
            first, *words = command(script)
            assert first == sys.executable
            assert command(own[role]) == ["/my env/bin/python", *words]


def test_the_command_of_a_driver(tmp_path: Path) -> None:
    for kind in KINDS:
        (*_, last) = of(tmp_path, kind)["driver"].rstrip("\n").split("\n")
        assert last.startswith("exec ")  # the signal is for the driver, not for a shell
        words = command(of(tmp_path, kind)["driver"])
        assert words == [sys.executable, "-m", "denoise5d", "run", "an argument", ""]


def test_the_command_of_a_worker(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))
    plan = planned(config)
    python, m, module, *words, settings_file = command(worker_script(config, plan))
    assert (python, m, module) == (sys.executable, "-m", "distributed.cli.dask_worker")
    assert words.count("--nanny") == words.count("--no-dashboard") == 1
    assert words[words.index("--nthreads") + 1] == "2"
    limits = [words[i + 1] for i, word in enumerate(words) if word == "--memory-limit"]
    assert limits[-1] == str(plan.bytes_per_worker)  # the last one counts
    assert settings_file == "SETTINGS_OF_THE_RUN"


@pytest.mark.parametrize(
    ("key", "value", "added"),
    [
        ("interface", "ib0.8001", ["--interface", "ib0.8001"]),
        ("worker_ports", "9000:9100", ["--worker-port", "9000:9100", "--nanny-port", "9000:9100"]),
        ("local_folder", "/local/my folder", ["--local-directory", "/local/my folder"]),
    ],
)
def test_a_key_reaches_the_command_of_a_worker(
    tmp_path: Path, key: str, value: str, added: list[str]
) -> None:
    found, plain = of(tmp_path, **{key: value}), of(tmp_path)
    words = command(found["worker"])
    (start,) = (i for i in range(len(words)) if words[i : i + len(added)] == added)
    assert words[:start] + words[start + len(added) :] == command(plain["worker"])
    assert found["driver"] == plain["driver"]


@pytest.mark.parametrize(("key", "value"), [
    ("scheduler_port", 8786), ("dashboard", "localhost:8787"), ("until", "done")
])  # fmt: skip
def test_a_key_that_is_for_the_running_driver(tmp_path: Path, key: str, value: Any) -> None:
    for kind in KINDS:
        assert of(tmp_path, kind, **{key: value}) == of(tmp_path, kind)


def test_no_key_is_forgotten_here() -> None:
    tested = {"jobs", "nodes", "cpus", "modules", "prologue", "python", "mail_type", "memory"}
    tested |= {"memory_request", "removed_directives", "interface", "worker_ports", "local_folder"}
    tested |= {"scheduler_port", "dashboard", "until"} | PLACES.keys()
    assert tested | {"kind", "workers"} == ClusterModel.model_fields.keys()


# -- options that are left out, or come last -------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [
    "--mem", "--nodes", "--time", "--output", "--ntasks-per-node", "--signal", "--job-name",
    "--partition", "--no-requeue", "-p", "-A", "-q", "-C", "-N", "-c", "-t", "-o", "-J",
    "--nonesuch",
])  # fmt: skip
def test_exactly_what_is_named_is_removed(tmp_path: Path, kind: str, name: str) -> None:
    long = {"-p": "--partition", "-A": "--account", "-q": "--qos", "-C": "--constraint",
            "-N": "--nodes", "-c": "--cpus-per-task", "-t": "--time", "-o": "--output",
            "-J": "--job-name"}.get(name, name)  # fmt: skip
    keys = {"partition": "p", "account": "a", "qos": "q", "constraint": "c"}
    keys |= {"extra_directives": [f"{long}=x", "--mem-bind=local"]}
    found = of(tmp_path, kind, removed_directives=[name], **keys)
    for role, script in of(tmp_path, kind, **keys).items():
        *usual, one, two = options(script)
        kept = [option for option in usual if option.split("=")[0] != long]
        assert options(found[role]) == [*kept, one, two]
        assert rest(found[role]) == rest(script)
        assert len(usual) - len(kept) <= 1


def test_extra_options_come_last(tmp_path: Path) -> None:
    extra = ["--mem=0", "--no-requeue"]
    keys = {"exclusive": True, "mail_user": "me"}
    for kind in KINDS:
        for script in of(tmp_path, kind, extra_directives=extra, **keys).values():
            assert options(script)[-2:] == extra


# -- memory and time -------------------------------------------------------------------------------


def requested_bytes(script: str, cpus: int) -> int | None:
    found = {k: v for k, _, v in (o.partition("=") for o in options(script)) if "mem" in k}
    if "--mem" in found:
        return int(found["--mem"].removesuffix("G")) * GIB
    if "--mem-per-cpu" in found:
        return int(found["--mem-per-cpu"].removesuffix("M")) * cpus * 2**20
    return None


@pytest.mark.parametrize("cpus", [1, 3, 4, 7])
def test_how_memory_is_asked_for(tmp_path: Path, cpus: int) -> None:
    for kind in KINDS:
        config = load_config(write(tmp_path, kind, cpus=cpus))
        need = job_gib(config, planned(config)) * GIB
        role = "worker" if kind == "slurm" else "driver"
        assert requested_bytes(scripts(config)[role], cpus) == need
        each = of(tmp_path, kind, cpus=cpus, memory_request="mem-per-cpu")[role]
        assert "--mem=" not in each
        got = requested_bytes(each, cpus)
        assert got is not None
        assert need <= got < need + cpus * 2**20
        none = of(tmp_path, kind, cpus=cpus, memory_request="none")
        assert all("--mem" not in " ".join(options(script)) for script in none.values())


def sized(plan: Plan, voxels: int, factor: float, reserve: int) -> Plan:
    budget = replace(plan.budget, memory_factor=factor, reserve_bytes=reserve)
    shape = (1, 1, 1, 1, voxels)
    grid = replace(plan.grid, image_shape=shape, block_shape=shape, halo=(0,) * 5)
    return replace(plan, grid=grid, budget=budget)


@pytest.fixture(scope="module")
def plain(folder: Path) -> tuple[Config, Plan]:
    config = load_config(write(folder))
    return config, planned(config)


@given(st.integers(1, 10**13), st.floats(1, 1000), st.integers(0, 10**12))
@example(GIB // 4 - WORKER_HEADROOM_BYTES // 4, 1.0, 0)
@example(GIB // 4 - WORKER_HEADROOM_BYTES // 4, 1.0, 1)
def test_what_is_asked_for_is_never_below_the_need(
    plain: tuple[Config, Plan], voxels: int, factor: float, reserve: int
) -> None:
    plan = sized(plain[1], voxels, factor, reserve)
    assert prod(plan.grid.largest_padded) == voxels
    need = plan.bytes_per_worker + WORKER_HEADROOM_BYTES
    assert need <= worker_gib(plan) * GIB < need + GIB


@given(st.integers(60, 999 * 86400))
@example(86399)
@example(86400)
def test_a_time_is_read_as_it_was_written(seconds: int) -> None:
    text = walltime(seconds)
    assert seconds_of(text) == seconds
    assert re.fullmatch(r"([1-9]\d*-)?[0-2]\d:[0-5]\d:[0-5]\d", text)  # as sbatch takes it


# -- nothing breaks out ----------------------------------------------------------------------------


def pattern(kind: Any) -> st.SearchStrategy[str]:
    """Return texts that a kind of value of the YAML takes."""
    return st.from_regex(kind.__metadata__[0].pattern, fullmatch=True)


SNARES = st.sampled_from([*"\n\r\t\0\v\x1b\x85\u2028\"'\\#%;$`-/~=[]|& *?<>(){}!é\u00a0"])
ODD = st.lists(SNARES | st.text(max_size=2), max_size=6).map("".join)
PLACE = ODD.map(lambda text: f"/{text}")
VALUES = {
    **dict.fromkeys(
        ("partition", "account", "qos", "reservation", "mail_user"), ODD | pattern(Name)
    ),
    "constraint": ODD | pattern(Constraint),
    "interface": ODD | pattern(Name),
    "extra_directives": st.lists(pattern(Directive) | ODD.map("--a=".__add__), max_size=2),
    "removed_directives": st.lists(pattern(DirectiveName) | ODD, max_size=2),
    "modules": st.lists(pattern(Module) | ODD, min_size=1, max_size=2),
    "log_folder": PLACE | ODD,
    "local_folder": PLACE,
    "python": PLACE,
    "output": PLACE | ODD,
}


@st.composite
def keys_and_values(draw: st.DrawFn) -> tuple[str, Any]:
    key = draw(st.sampled_from(sorted(VALUES)))
    return key, draw(VALUES[key])


@cache
def plain_scripts(folder: Path, kind: str) -> Scripts:
    return of(folder, kind)


@settings(max_examples=150)
@given(kind=st.sampled_from(KINDS), pair=keys_and_values())
@example(kind="slurm", pair=("output", "/a \"b\" 'c' 100% $HOME `ls` #SBATCH -x; ls"))
@example(kind="slurm", pair=("log_folder", "/a #\"b' 100%j `ls`"))
@example(kind="slurm", pair=("log_folder", "/a\\"))
@example(kind="slurm", pair=("python", "/a b'c\"; ls *"))
@example(kind="slurm", pair=("local_folder", "/a b'c\"; ls *"))
@example(kind="allocation", pair=("constraint", "[a*2|b&!c]"))
def test_no_value_says_more_than_itself(
    folder: Path, plain: tuple[Config, Plan], kind: str, pair: tuple[str, Any]
) -> None:
    key, value = pair
    usual = plain_scripts(folder, kind)
    try:
        config = load_config(write(folder, kind, **{key: value}))
        found = scripts(config, plain[1])
    except (ConfigError, ClusterError):
        assume(False)
        raise
    for role, script in found.items():
        check_texts(script, usual[role], key)
        check_options(script, usual[role], config, role)
        if key in ("python", "local_folder", "interface", "output"):
            check_command(script, usual[role], config, role)


def check_texts(script: str, usual: str, key: str) -> None:
    """Check that lines are added or changed only where they may be."""
    lines, others = rest(script), rest(usual)
    if key in ("python", "local_folder", "interface"):  # on the command line
        lines, others = lines[:-2], others[:-2]
    if key == "modules":
        loads = [line for line in lines if line.startswith("module load ")]
        assert all(re.fullmatch(r"module load \S+ \|\| exit 1", line) for line in loads)
        # No `$`, quote or separator can be in a name, so that it is one word.
        assert all(not set(line[12:-10]) & set("$`'\"\\;&|<>()*?#") for line in loads)
        lines = [x for x in lines if x not in loads and x != MODULE_COMMAND]
        assert loads
    if key == "output":  # of which the set-up of a worker names a file, quoted
        lines = [x for x in lines if not x.startswith("export DASK_CONFIG=")]
        others = [x for x in others if not x.startswith("export DASK_CONFIG=")]
    assert [x for x in lines if x] == [x for x in others if x]


def check_options(script: str, usual: str, config: Config, role: str) -> None:
    """Check that every option is one, and that sbatch reads what the YAML says."""
    first = next(i for i, x in enumerate(script.split("\n")) if x and not x.startswith("#"))
    assert "#SBATCH" not in "\n".join(script.split("\n")[first:])
    own = config.cluster.batch
    assert own is not None
    headers = [x for x in script.split("\n") if x.startswith("#SBATCH ")]
    extra = len(own.extra_directives)
    usual_count = len([x for x in usual.split("\n") if x.startswith("#SBATCH ")])
    assert len(headers) - extra <= usual_count + 2  # an option more, or two for mail
    for header in headers[: len(headers) - extra]:
        assert len(words_of_sbatch(header.removeprefix("#SBATCH "))) == 1
    logs = str(batch.log_folder(config)).replace("%", "%%")
    if not own.extra_directives and not own.removed_directives:
        assert f"--output={logs}/{role}-%j.log" in options(script)


def check_command(script: str, usual: str, config: Config, role: str) -> None:
    """Check that bash reads the values as single words that are the values themselves."""
    own = config.cluster.batch
    assert own is not None
    first, *words = command(usual)
    if role == "worker":
        added = [("--interface", own.interface), ("--local-directory", own.local_folder)]
        found = command(script)
        for name, value in added:
            if value is not None:
                at = found.index(name)
                assert found[at + 1] == value
                del found[at : at + 2]
        assert found == [own.python or first, *words]
    else:
        assert command(script) == [own.python or first, *words]
    syntax_is_right(script)


@pytest.mark.parametrize("name", ["a\nb", "a\\b"])
def test_a_folder_that_slurm_cannot_write_to_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    path = write(tmp_path / name)
    config = load_config(path)
    with pytest.raises(ClusterError, match=re.escape("give another cluster.log_folder")):
        driver_script(config, planned(config))
    of(tmp_path / name, log_folder=str(tmp_path))  # and then it is well


def test_the_settings_of_a_run_are_one_word(tmp_path: Path) -> None:
    from denoise5d.cluster.jobs import job_options

    config = load_config(write(tmp_path))
    odd = "/a \"b\" 'c' $HOME `ls` \\ #; ls\nls"
    (line,) = job_options(config, planned(config), Path(odd))["job_script_prologue"]
    done = subprocess.run(
        ["/bin/bash", "-c", f'{line}\nprintf %s "$DASK_CONFIG"'], capture_output=True, text=True
    )
    assert done.stdout == odd


# -- the files in slurm/ ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_file_of_ours_is_a_script_that_says_how_it_is_used(path: Path) -> None:
    text = path.read_text()
    syntax_is_right(text)
    assert text.startswith("#!/bin/bash\n# ")
    assert re.search(rf"^#.*\bsbatch .*{path.name} embryo\.yaml", text, re.MULTILINE)
    assert any(option.startswith("--signal=B:USR1@") for option in options(text))
    assert options(text)[0] == "--job-name=denoise5d"
    assert text.rstrip().split("\n")[-1].startswith("exec denoise5d run")


@pytest.mark.parametrize("name", ["driver.sbatch", "allocation.sbatch"])
def test_a_template_has_what_is_replaced_in_it(name: str) -> None:
    text = (ROOT / "slurm" / name).read_text()
    assert text == files("denoise5d").joinpath("slurm", name).read_text()
    assert text.count(batch._MARK) == text.count(batch._COMMAND + " ") == 1
    headers = [i for i, line in enumerate(text.split("\n")) if line.startswith("#SBATCH")]
    assert headers == list(range(headers[0], headers[-1] + 1))  # together, replaced as a whole
    assert text.index(batch._MARK) < text.index(batch._COMMAND)


@pytest.mark.parametrize("kind", KINDS)
def test_the_comments_of_the_template_stay(tmp_path: Path, kind: str) -> None:
    name = "driver.sbatch" if kind == "slurm" else "allocation.sbatch"
    text = (ROOT / "slurm" / name).read_text()
    script = of(tmp_path, kind)["driver"]
    assert script.split("#SBATCH")[0] == text.split("#SBATCH")[0]
    assert "#SBATCH --mem=8G" not in script or kind == "slurm"


def every_script(folder: Path) -> Iterator[str]:
    keys = {key: value for key, (value, *_) in PLACES.items()}
    keys |= {"modules": ["gcc"], "prologue": "if true; then\n  ls\nfi", "python": "/my env/python"}
    keys |= {"local_folder": "/a 'b'", "interface": "ib0", "worker_ports": "1:2"}
    for kind in KINDS:
        yield from of(folder, kind, output="/a \"b\" 100% 'c'/out.zarr", **keys).values()
        yield from of(folder, kind).values()


def test_bash_takes_every_script(tmp_path: Path) -> None:
    for script in every_script(tmp_path):
        syntax_is_right(script)
        assert script.startswith("#!/bin/bash\n")
        lines = [line for line in script.split("\n") if line and line != "#!/bin/bash"]
        comments = [line.startswith("#") for line in lines]
        first = comments.index(False)
        assert not any(line.startswith("#SBATCH") for line in lines[first:])
        assert any(line.startswith("#SBATCH") for line in lines[:first])

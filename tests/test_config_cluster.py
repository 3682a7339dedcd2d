"""The keys of `cluster` for SLURM: what arrives, what is refused, what no text can break."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from denoise5d.config import BatchConfig, ClusterConfig, load_config
from denoise5d.config.cluster_models import ClusterModel
from denoise5d.errors import ConfigError

PATHS = "input: {path: a.zarr}\noutput: {path: b.zarr}\n"  # rows that add to it start at line 3

PLAIN = BatchConfig(
    count=1,
    walltime=43200,
    partition=None,
    account=None,
    qos=None,
    constraint=None,
    reservation=None,
    memory_request="mem",
    exclusive=False,
    interface=None,
    scheduler_port=0,
    worker_ports=None,
    local_folder=None,
    log_folder=None,
    modules=(),
    prologue="",
    python=None,
    extra_directives=(),
    removed_directives=(),
    mail_user=None,
    mail_type=(),
    signal_lead=300,
    until="walltime",
)


def load(folder: Path, text: str) -> ClusterConfig:
    path = folder / "run.yaml"
    path.write_text(PATHS + text, encoding="utf-8")
    return load_config(path).cluster


def batch(folder: Path, keys: str) -> BatchConfig:
    """Load keys of kind slurm, one a line."""
    lines = f"kind: slurm\nwalltime: '12:00:00'\n{keys}".replace("\n", "\n  ")
    config = load(folder, f"cluster:\n  {lines}").batch
    assert config is not None
    return config


def attempt(folder: Path, text: str) -> tuple[ClusterConfig | None, str]:
    """Return what is loaded, or None and the message."""
    try:
        return load(folder, text), ""
    except ConfigError as error:
        return None, str(error)


def complaints(folder: Path, text: str) -> list[str]:
    """Return the lines of the ConfigError, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).replace(f"{folder}{os.sep}", "").splitlines()


@pytest.mark.parametrize("kind", ["slurm", "allocation"])
def test_walltime_is_all_that_must_be_given(tmp_path: Path, kind: str) -> None:
    config = load(tmp_path, f"cluster: {{kind: {kind}, walltime: '12:00:00'}}")
    assert config == ClusterConfig(kind, None, None, None, None, PLAIN)  # type: ignore[arg-type]


def test_this_machine_has_no_batch(tmp_path: Path) -> None:
    assert load(tmp_path, "") == ClusterConfig("local", None, None, None, None, None)
    assert load(tmp_path, "cluster: {kind: local, partition: }").batch is None


def test_every_key_of_the_batch_arrives(tmp_path: Path) -> None:
    text = """
cluster:
  kind: slurm
  jobs: 4
  cpus: 76
  memory: 230
  dashboard: localhost:8787
  walltime: 1-06:30:05
  partition: icelake,sapphire
  account: MYLAB-CPU
  qos: intr
  constraint: '[rack1*2|rack2&!b]'
  reservation: course
  memory_request: mem-per-cpu
  exclusive: true
  interface: ib0.8001
  scheduler_port: 8786
  worker_ports: 9000:9100
  local_folder: /local/my folder
  log_folder: ../logs
  modules: [rhel8/default-icl, python/3.11.0]
  prologue: [ulimit -n 4096, "export A='b c'"]
  python: /opt/env/bin/python
  extra_directives: ["--gres=gpu:1", "-x node[1-3]", '--comment="my run"']
  removed_directives: [--mem, -p]
  mail_user: me@example.org
  mail_type: [TIME_LIMIT_80]
  signal_lead: 600
  until: done
"""
    expected = BatchConfig(
        count=4,
        walltime=109805,
        partition="icelake,sapphire",
        account="MYLAB-CPU",
        qos="intr",
        constraint="[rack1*2|rack2&!b]",
        reservation="course",
        memory_request="mem-per-cpu",
        exclusive=True,
        interface="ib0.8001",
        scheduler_port=8786,
        worker_ports=(9000, 9100),
        local_folder="/local/my folder",
        log_folder=tmp_path / "../logs",
        modules=("rhel8/default-icl", "python/3.11.0"),
        prologue="ulimit -n 4096\nexport A='b c'",
        python="/opt/env/bin/python",
        extra_directives=("--gres=gpu:1", "-x node[1-3]", '--comment="my run"'),
        removed_directives=("--mem", "-p"),
        mail_user="me@example.org",
        mail_type=("TIME_LIMIT_80",),
        signal_lead=600,
        until="done",
    )
    config = load(tmp_path, text)
    assert config == ClusterConfig("slurm", None, 76, 230.0, "localhost:8787", expected)
    keys = ClusterModel.model_fields.keys() - {"nodes", "workers"}
    assert set(yaml.safe_load(text)["cluster"]) == keys  # no key is forgotten here


def test_an_allocation_counts_nodes(tmp_path: Path) -> None:
    config = load(tmp_path, "cluster: {kind: allocation, nodes: 3, walltime: '12:00:00'}")
    assert config.batch is not None
    assert config.batch.count == 3


def test_keys_with_everything_below_commented_out_are_their_defaults(tmp_path: Path) -> None:
    keys = "modules:\n  # - gcc\nprologue:\nextra_directives:\nremoved_directives:\nmail_type: []"
    optional = "partition account qos constraint reservation interface worker_ports local_folder"
    nulls = "\n".join(f"{key}:" for key in f"{optional} log_folder python mail_user".split())
    assert batch(tmp_path, f"{keys}\n{nulls}") == PLAIN


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [("12:00:00", 43200), ("0:05:01", 301), ("100:00:00", 360000), ("2-00:00:00", 172800)],
)
def test_walltime_in_seconds(tmp_path: Path, walltime: str, seconds: int) -> None:
    config = load(tmp_path, f"cluster: {{kind: slurm, walltime: '{walltime}'}}")
    assert config.batch is not None
    assert config.batch.walltime == seconds


def test_a_prologue_of_several_lines(tmp_path: Path) -> None:
    text = "prologue: |\n  module use /apps\n  \tsource env.sh  # and $HOME\nqos: a"
    assert batch(tmp_path, text).prologue == "module use /apps\n\tsource env.sh  # and $HOME\n"


def test_mail_is_about_the_end_and_failures(tmp_path: Path) -> None:
    assert batch(tmp_path, "mail_user: me@example.org").mail_type == ("END", "FAIL")
    assert batch(tmp_path, "mail_user: me@example.org\nmail_type: []").mail_type == ()


def test_home_and_log_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = batch(tmp_path, "python: ~/env/bin/python\nlocal_folder: ~/tmp\nlog_folder: ~/logs")
    assert (config.python, config.local_folder) == ("/home/me/env/bin/python", "/home/me/tmp")
    assert config.log_folder == Path("/home/me/logs")
    assert batch(tmp_path, "log_folder: logs").log_folder == tmp_path / "logs"


def test_the_python_of_an_environment_stays_the_link_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("/usr/bin/env")
    assert batch(tmp_path, f"python: {tmp_path}/python").python == f"{tmp_path}/python"


SLURM = "cluster: {kind: slurm, walltime: '12:00:00', "
NAME = "must be a name of letters, digits and . _ @ : , + = / -, beginning with a letter or digit"
CLOCK = "must be hours:minutes:seconds or days-hours:minutes:seconds, minutes and seconds below 60"
GIVE_TIME = 'write for example "12:00:00" or 1-12:00:00'
PLACE = "must be an absolute path, or begin with ~ for home, on one line and without $ variables"
MODULE = "must be the name of one module: letters, digits and . _ / + : @ = -, not beginning with -"
OPTION = "must be one option of sbatch that begins with -, on one line, without #SBATCH and #"
OPTION_NAME = (
    "must be the name of an option of sbatch alone, such as --mem or -p, without its value"
)
FEATURES = (
    "must be features of nodes: letters, digits and . _ @ : , + = / - & | ! * ( ) [ ], no spaces"
)

REFUSED = [  # below PATHS; key, rule and value got, advice
    ("cluster: {kind: slurm}", "walltime: is missing, kind: slurm needs it; give the longest time "
     'of a job in quotes, such as "12:00:00"'),
    ("cluster: {kind: allocation, walltime: }", "walltime: is missing, kind: allocation needs it, "
     'got nothing; give the longest time of a job in quotes, such as "12:00:00"'),
    ("cluster: {kind: slurm, walltime: 12:00:00}", "walltime: 12:00:00 is read by YAML as a number "
     "to the base 60; put it in quotes, or write it out"),
    ("cluster: {kind: slurm, walltime: 12}", "walltime: must be text, in quotes if it looks like "
     f"a number, got 12; {GIVE_TIME}"),
    *((f"cluster: {{kind: slurm, walltime: '{time}'}}", f"walltime: {CLOCK}, got '{time}'; "
       f"{GIVE_TIME}") for time in ("12h", "1-12", "12:00", "1:60:00", "1:00:60", "-1:00:00",
                                    "1-:00:00", "1:2:3")),
    ("cluster: {kind: slurm, walltime: '0:00:59'}", "walltime: must be a minute or more, "
     f"got '0:00:59'; {GIVE_TIME}"),
    ("cluster: {kind: slurm, walltime: '0:05:00'}", "walltime: must be longer than "
     "cluster.signal_lead, 300 seconds by default, got '0:05:00'; give more time, or a "
     "signal_lead"),
    ("cluster: {kind: slurm, walltime: '0:05:00', signal_lead: 300}", "signal_lead: must be less "
     "than cluster.walltime, which is 300 seconds, got 300; give fewer seconds, or a longer "
     "walltime"),
    ("cluster: {partition: icelake}", "partition: belongs to kind: slurm or allocation, but kind "
     "is local (default), got icelake; give that kind, or remove the key"),
    ("cluster: {kind: local, exclusive: false}", "exclusive: belongs to kind: slurm or allocation, "
     "but kind is local, got false; give that kind, or remove the key"),
    ("cluster: {jobs: 2}", "jobs: belongs to kind: slurm, but kind is local (default), got 2; "
     "give workers, or change the kind"),
    ("cluster: {kind: local, nodes: 2}", "nodes: belongs to kind: allocation, but kind is local, "
     "got 2; give workers, or change the kind"),
    (SLURM + "nodes: 2}", "nodes: belongs to kind: allocation, but kind is slurm, got 2; "
     "give jobs, or change the kind"),
    (SLURM + "workers: 2}", "workers: belongs to kind: local, but kind is slurm, got 2; "
     "give jobs, or change the kind"),
    ("cluster: {kind: allocation, walltime: '1:00:00', jobs: 1}", "jobs: belongs to kind: slurm, "
     "but kind is allocation, got 1; give nodes, or change the kind"),
    ("cluster: {kind: allocation, walltime: '1:00:00', workers: auto}", "workers: belongs to kind: "
     "local, but kind is allocation, got auto; give nodes, or change the kind"),
    (SLURM + "jobs: 0}", "jobs: must be at least 1, got 0; write for example 4"),
    (SLURM + "mail_type: [END]}", "mail_user: is missing, mail_type needs it; give the address, "
     "or neither"),
    (SLURM + "mail_user: me@x.org, mail_type: [end]}", "mail_type[0]: must be BEGIN, END, FAIL, "
     "REQUEUE, TIME_LIMIT, TIME_LIMIT_90, TIME_LIMIT_80, TIME_LIMIT_50, INVALID_DEPEND, STAGE_OUT "
     "or ALL, got end; write for example [END, FAIL]"),
    (SLURM + "partition: a b}", f"partition: {NAME}, got a b; write for example icelake"),
    (SLURM + "partition: ''}", f"partition: {NAME}, got ''; write for example icelake"),
    (SLURM + "account: -A}", f"account: {NAME}, got -A; write for example MYLAB-CPU"),
    (SLURM + "account: 12}", "account: must be text, in quotes if it looks like a number, got 12; "
     "write for example MYLAB-CPU"),
    (SLURM + "qos: 'a#b'}", f"qos: {NAME}, got 'a#b'; write for example normal"),
    (SLURM + "reservation: a%j}", f"reservation: {NAME}, got a%j; write for example course2026"),
    (SLURM + "interface: ib0;ls}", f"interface: {NAME}, got ib0;ls; write for example ib0"),
    (SLURM + 'mail_user: "me@x.org\\n"}', f"mail_user: {NAME}, got 'me@x.org\\n'; "
     "write for example me@example.org"),
    (SLURM + "constraint: 'a & b'}", f"constraint: {FEATURES}, got 'a & b'; "
     'write for example icelake or "[rack1|rack2]"'),
    (SLURM + "constraint: [a|b]}", "constraint: must be text, in quotes if it looks like a number, "
     'got [a|b]; write for example icelake or "[rack1|rack2]"'),
    (SLURM + "memory_request: null}", "memory_request: must be mem, mem-per-cpu or none, "
     "got nothing; write for example mem"),
    (SLURM + "exclusive: 1}", "exclusive: must be true or false, got 1; write for example true"),
    (SLURM + "scheduler_port: -1}", "scheduler_port: must be at least 0, got -1; "
     "write for example 8786"),
    (SLURM + "scheduler_port: 65536}", "scheduler_port: must be at most 65535, got 65536; "
     "write for example 8786"),
    *((SLURM + f"worker_ports: '{text}'}}", f"worker_ports: must be {rule}, got '{text}'; "
       "write for example 9000:9100") for text, rule in (
           ("9000-9100", "text of the form first:last"),
           ("9000:", "text of the form first:last"),
           ("9001:9000", "two ports from 1 to 65535, the smaller first"),
           ("0:9", "two ports from 1 to 65535, the smaller first"),
           ("1:65536", "two ports from 1 to 65535, the smaller first"))),
    (SLURM + "local_folder: tmp}", f"local_folder: {PLACE}, got tmp; "
     "write for example /local/scratch"),
    (SLURM + "local_folder: /tmp/$USER}", f"local_folder: {PLACE}, got /tmp/$USER; "
     "write for example /local/scratch"),
    (SLURM + "python: python3}", f"python: {PLACE}, got python3; "
     "write for example ~/denoise5d-env/bin/python"),
    (SLURM + "python: ~nobody-of-that-name/python}", "python: must begin with a home folder that "
     "exists (Could not determine home directory.), got ~nobody-of-that-name/python; "
     "write for example ~/denoise5d-env/bin/python"),
    (SLURM + "log_folder: $HOME/logs}", "log_folder: must be a path on one line without $ "
     "variables, got $HOME/logs; write for example logs"),
    (SLURM + "log_folder: 's3://logs'}", "log_folder: must be a folder on this machine, not a URL, "
     "got 's3://logs'; write for example logs"),
    (SLURM + "log_folder: ''}", "log_folder: must not be empty, got ''; write for example logs"),
    (SLURM + "log_folder: ~nobody-of-that-name}", "log_folder: must begin with a home folder that "
     "exists (Could not determine home directory.), got ~nobody-of-that-name; "
     "write for example logs"),
    (SLURM + "modules: gcc}", "modules: must be a list in square brackets, got gcc; "
     "write for example [rhel8/default-icl]"),
    (SLURM + "modules: [gcc, --help]}", f"modules[1]: {MODULE}, got --help; "
     "write for example [rhel8/default-icl]"),
    (SLURM + "modules: [gcc; ls]}", f"modules[0]: {MODULE}, got gcc; ls; "
     "write for example [rhel8/default-icl]"),
    (SLURM + "prologue: 3}", "prologue: must be text, or a list of lines, got 3; "
     "write for example ulimit -n 4096 or [ulimit -n 4096, export TMPDIR=/local/scratch]"),
    (SLURM + 'prologue: [a, "b\\r"]}', "prologue[1]: must not hold control characters other than "
     "line breaks and tabs, got 'b\\r'; "
     "write for example ulimit -n 4096 or [ulimit -n 4096, export TMPDIR=/local/scratch]"),
    (SLURM + 'prologue: "b\\x1b"}', "prologue: must not hold control characters other than "
     "line breaks and tabs, got 'b\\x1b'; "
     "write for example ulimit -n 4096 or [ulimit -n 4096, export TMPDIR=/local/scratch]"),
    *((SLURM + f"extra_directives: ['{text}']}}", f"extra_directives[0]: {OPTION}, got '{text}'; "
       "write for example [--gres=gpu:1]")
      for text in ("#SBATCH -x a", "gres=gpu:1", "--gres # 1", "--", "-", "--a;b", "---a")),
    (SLURM + 'extra_directives: ["--a\\nb"]}', f"extra_directives[0]: {OPTION}, got '--a\\nb'; "
     "write for example [--gres=gpu:1]"),
    *((SLURM + f"removed_directives: ['{text}']}}", f"removed_directives[0]: {OPTION_NAME}, "
       f"got '{text}'; write for example [--mem]")
      for text in ("mem", "--mem=0", "-mem", "--", "---", "- p")),
    (SLURM + "signal_lead: 0}", "signal_lead: must be at least 1, got 0; write for example 300"),
    (SLURM + "signal_lead: 65536}", "signal_lead: must be at most 65535, got 65536; "
     "write for example 300"),
    (SLURM + "until: never}", "until: must be done or walltime, got never; "
     "write for example done"),
    (SLURM + "partiton: a}", "partiton: is not a known key, got a; did you mean partition?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_a_mistake_gets_its_message(tmp_path: Path, text: str, expected: str) -> None:
    (line,) = complaints(tmp_path, text)
    assert line == f"run.yaml:3: cluster.{expected}"


def test_who_forgot_the_kind_hears_of_every_key_in_its_line(tmp_path: Path) -> None:
    text = "cluster:\n  walltime: '12:00:00'\n  cpus: 76\n  account: me\n  modules: [gcc]\n"
    found = [line.split(" belongs to ") for line in complaints(tmp_path, text)]
    assert [place for place, _ in found] == [
        "run.yaml:4: cluster.walltime:",
        "run.yaml:6: cluster.account:",
        "run.yaml:7: cluster.modules:",
    ]
    assert all(rule.startswith("kind: slurm or allocation") for _, rule in found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


NAMES = ["partition", "account", "qos", "constraint", "reservation", "interface", "mail_user"]
OTHER_TEXTS = ["worker_ports", "local_folder", "log_folder", "python", "memory_request", "until"]
LISTS = ["modules", "extra_directives", "removed_directives", "mail_type"]
SNARES = st.sampled_from([*"\n\r\t\0\v\x1b\x85\u2028\"'\\#%;$`-/~=[]|& "])
WORDS = st.sampled_from(["ib0", "-", "--mem", "/tmp", "~/x", "#SBATCH", "9000:9100", "END", "a|b"])
TEXTS = (
    st.text(max_size=6)
    | st.lists(WORDS | SNARES | st.text(max_size=2), max_size=4).map("".join)
    | st.tuples(WORDS, SNARES, WORDS).map("".join)
)


@settings(deadline=None, max_examples=600)
@given(key=st.sampled_from([*NAMES, *OTHER_TEXTS, *LISTS]), text=TEXTS)
@example(key="partition", text="ib0\n")
@example(key="extra_directives", text="--mem\n")
@example(key="removed_directives", text="--mem\n")
@example(key="modules", text="gcc\n")
@example(key="python", text="/tmp\n")
@example(key="log_folder", text="a\u2028b")
def test_no_text_reaches_a_second_line(folder: Path, key: str, text: str) -> None:
    keys = {"kind": "slurm", "walltime": "12:00:00", "mail_user": "me"}
    value = [text] if key in LISTS else text
    config, message = attempt(folder, yaml.safe_dump({"cluster": {**keys, key: value}}))
    if config is None:
        assert re.match(rf".*/run\.yaml:\d+: cluster\.{key}(\[0\])?: ", message)
        return
    assert config.batch is not None
    got = getattr(config.batch, key)
    for shown in map(str, got if isinstance(got, tuple) else [got]):
        assert shown.isprintable()
        assert len(shown.splitlines()) == 1
        if key in NAMES:
            assert not set(shown) & set(" \"'`\\#%;$")
        if key.endswith("directives"):
            assert shown.startswith("-")
            assert "#" not in shown


@settings(deadline=None, max_examples=200)
@given(text=TEXTS)
def test_a_prologue_is_any_text_without_control_characters(folder: Path, text: str) -> None:
    keys = {"kind": "slurm", "walltime": "12:00:00", "prologue": text}
    config, message = attempt(folder, yaml.safe_dump({"cluster": keys}))
    if any(char not in "\n\t" and unicodedata.category(char) == "Cc" for char in text):
        assert "cluster.prologue: " in message
    else:
        assert config is not None
        assert config.batch is not None
        assert config.batch.prologue == text

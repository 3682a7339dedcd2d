"""The documents say what is there: commands, options, links, snippets, constants, tables."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import chain
from pathlib import Path

import click
import numpy as np
import pytest
import tifffile

from denoise5d import errors
from denoise5d.cli import cli
from denoise5d.config import load_config
from denoise5d.config.models import SECTIONS
from denoise5d.kernel import (
    ISA_VARIABLE,
    reach,
)
from denoise5d.machine import GIB, Machine
from denoise5d.parameters import (
    resolve_parameters,
)
from denoise5d.prepare import describe_input, prepare
from page import PAGE

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
OPENING = ROOT / "docs" / "output.md"  # run by integration/test_opens_everywhere.py
TUTORIAL = ROOT / "docs" / "tutorial.md"  # run as a whole, by test_tutorial
PACKAGE = ROOT / "pipeline" / "denoise5d"
EMBRYO = (17, 1, 1501, 2048, 1936)

SHELL = re.compile(r"```console\n(.*?)```", re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")

everywhere = pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)


def snippets(language: str, *, but: Collection[Path] = ()) -> list[str]:
    """All blocks of one language, of all documents but some."""
    fence = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    texts = [document.read_text() for document in DOCS if document not in but]
    return [found for text in texts for found in fence.findall(text)]


def called(text: str) -> list[list[str]]:
    """The words of every command line that a document shows."""
    shell = chain.from_iterable(block.splitlines() for block in SHELL.findall(text))
    lines = chain((line.removeprefix("$ ") for line in shell), CODE.findall(text))
    return [line.split("#")[0].split() for line in lines]


def anchors(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@everywhere
def test_commands_and_their_options_exist(document: Path) -> None:
    for words in called(document.read_text()):
        if words[:1] != ["denoise5d"] or len(words) == 1:
            continue
        name, *rest = words[1:]
        if name.startswith("-"):
            known = cli.params
        else:
            assert name in cli.commands, words
            command = cli.commands[name]
            # click keeps the option for help that it makes
            context = click.Context(command, **cli.context_settings)
            assert command.get_help(context).startswith("Usage"), words
            known = command.params
        options = set(chain.from_iterable(option.opts for option in known)) | {"--help"}
        assert {word for word in [name, *rest] if word.startswith("-")} <= options, words


def test_every_command_is_in_the_readme() -> None:
    named = {" ".join(words[:2]) for words in called(DOCS[0].read_text())}
    assert {f"denoise5d {name}" for name in cli.commands} - {"denoise5d demo"} <= named
    assert {"make demo", "make test"} <= named


@everywhere
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in called(document.read_text()):
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, words


@everywhere
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve()
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@everywhere
def test_files_named_exist(document: Path) -> None:
    suffixes = (".py", ".cpp", ".hpp", ".sbatch", ".toml")
    text = document.read_text()
    for name in CODE.findall(text):
        if f"rite `{name}`:" in text:  # what the reader is to write
            continue
        if name.endswith(suffixes) and " " not in name and not re.search(r"[<>*]", name):
            folders = (ROOT, PACKAGE, ROOT / "cpp", document.parent)
            inside = (folder / name for folder in folders)
            assert any(path.exists() for path in inside) or list(PACKAGE.glob(f"*/{name}")), name


def test_code_map_has_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert {name for name in modules | packages if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("snippet", snippets("python", but=(PAGE, OPENING, TUTORIAL)))
def test_python_runs(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.random.default_rng(0).poisson(50, (3, 12, 96, 96)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", stack)
    monkeypatch.chdir(tmp_path)
    names: dict[str, np.ndarray] = {}
    exec(compile(snippet, "snippet", "exec"), names)
    assert names["clean"].shape == stack.shape
    assert names["clean"].std() < 0.5 * stack.std()


@pytest.mark.parametrize("snippet", snippets("yaml"))
def test_yaml_loads(snippet: str, tmp_path: Path) -> None:
    (tmp_path / "snippet.yaml").write_text(snippet)
    assert load_config(tmp_path / "snippet.yaml").output.path.parent == tmp_path


@everywhere
def test_keys_of_the_yaml_exist(document: Path) -> None:
    for name in CODE.findall(document.read_text()):
        *section, key = name.partition(":")[0].split(".")
        if tuple(section[:1]) in SECTIONS.keys() - {()} and key != "py":
            assert key in SECTIONS[tuple(section)].model_fields, name


@everywhere
def test_words_for_method_and_quality_exist(document: Path, tmp_path: Path) -> None:
    for text in CODE.findall(document.read_text()):
        if found := re.fullmatch(r"(?:denoise\.)?((?:method|quality): \w+)", text):
            snippet = tmp_path / "snippet.yaml"
            snippet.write_text(f"input: {{path: a}}\noutput: {{path: b}}\ndenoise: {{{found[1]}}}")
            load_config(snippet)


def test_exit_codes_are_those_of_the_errors() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {str(c.exit_code) for c in classes if issubclass(c, errors.Denoise5dError)}
    for name in ("README.md", "docs/troubleshooting.md"):
        table = set(re.findall(r"^\| (\d+) \|", (ROOT / name).read_text(), re.MULTILINE))
        assert table == codes | {"0", "130"}, name


def test_every_source_of_the_kernel_is_in_the_code_map() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    sources = [path.name for path in (ROOT / "cpp" / "src").glob("*.cpp")]
    assert [name for name in sources if f"`src/{name}`" not in text] == []


def test_environment_variables_exist() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert f"`{ISA_VARIABLE}`" in text
    assert set(re.findall(r"DENOISE5D_\w+", text)) == {ISA_VARIABLE}


def test_constants_of_the_estimator() -> None:
    source = (ROOT / "cpp" / "src" / "safir.cpp").read_text()
    value = dict(re.findall(r"constexpr float (k\w+) = ([\d.]+)F;", source))
    text = (ROOT / "docs" / "algorithm.md").read_text()
    assert (
        f"flat part {float(value['kFlat']):g}, width {float(value['kWidth']):g}, confidence "
        f"{float(value['kRho']):g}, variance floor {float(value['kVarianceFloor']):g}" in text
    )


def test_cells_of_the_refinement() -> None:
    source = (ROOT / "cpp" / "src" / "ridge.cpp").read_text()
    (tile,) = re.findall(r"constexpr Index kTile = \{(.+?)\};", source)
    text = (ROOT / "docs" / "algorithm.md").read_text()
    assert f"[{tile}] voxels (T, Z, Y, X)" in text
    (flat,) = re.findall(r"constexpr float kFlatVariance = ([\d.]+)F;", source)
    assert f"variance of at most {float(flat):g} (" in text


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("T and Z", (9, 1, 40, 90, 90)),
        ("Z", (1, 1, 40, 90, 90)),
        ("T", (40, 1, 1, 90, 90)),
        ("one plane", (1, 1, 1, 90, 90)),
    ],
)
def test_tables_of_defaults(name: str, shape: tuple[int, int, int, int, int]) -> None:
    text = (ROOT / "docs" / "algorithm.md").read_text()
    both, safir = resolve_parameters(shape), resolve_parameters(shape, ridge=False)
    windows = ", ".join(str(list(window)) for window in safir.windows)
    assert f"| {name} | {list(safir.patch)} | {windows} | {list(reach(safir))} |" in text
    ridge = both.ridge
    assert ridge is not None
    row = [list(ridge.patch), list(ridge.search), list(ridge.stride), ridge.group]
    assert f"| {name} | {' | '.join(map(str, [*row, list(reach(both))]))} |" in text
    assert f"The refinement, {ridge.rounds} round:" in text


def test_numbers_of_the_embryo(tmp_path: Path) -> None:
    yaml_file = tmp_path / "embryo-202GB.yaml"
    yaml_file.write_text((ROOT / "configs" / "embryo-202GB.yaml").read_text())
    config = load_config(yaml_file)
    job = prepare(config, describe_input(config), Machine(cpus=76, memory_bytes=256 * GIB))
    assert job.image.shape == EMBRYO
    plan, ridge = job.plan, job.parameters.ridge
    assert ridge is not None
    assert ridge.rounds == 1
    text = " ".join((ROOT / "docs" / "algorithm.md").read_text().split())
    for words in (
        f"patch {list(job.parameters.patch)}, one iteration with the window "
        f"{list(job.parameters.windows[0])}, one round of refinement with the search "
        f"{list(ridge.search)}, halo {list(plan.grid.halo)}",
        f"{plan.blocks} blocks of {list(plan.grid.block_shape)}",
        f"redundancy of {plan.redundancy:.3f}",
        f"{plan.bytes_per_worker / GIB:.0f} GiB for one worker",
        f"{plan.budget.threads} threads, {plan.files} files",
    ):
        assert words in text


def test_picture_is_small() -> None:
    assert (ROOT / "docs" / "demo.png").stat().st_size < 400_000


def test_thresholds_of_doubts() -> None:
    text = " ".join((ROOT / "docs" / "algorithm.md").read_text().split())
    source = (PACKAGE / "noise_doubts.py").read_text()
    value = dict(re.findall(r"^(_\w+) = ([\d.]+)$", source, re.MULTILINE))
    assert f"Above {value['_SHARED']} is a warning" in text
    assert f"A lower quartile above {value['_PATTERN']} is a fixed pattern" in text
    assert f"cells of {value['_SIDE']} x {value['_SIDE']} pixels" in text

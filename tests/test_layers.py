"""Rules that the source as a whole keeps; import-linter holds the order of the layers."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import denoise5d

PACKAGE = Path(denoise5d.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(tree: ast.Module) -> Iterator[str]:
    """Yield the name of every function that a module calls, as it is written."""
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def users(names: Callable[[ast.Module], Iterator[str]], wanted: Callable[[str], bool]) -> set[str]:
    return {module for module, tree in MODULES.items() if any(map(wanted, names(tree)))}


def test_the_package_is_found() -> None:
    assert {"cli/__init__.py", "kernel.py", "geometry.py"} <= MODULES.keys()


def test_only_kernel_imports_the_extension() -> None:
    assert users(imported, lambda name: "_kernel" in name.split(".")) == {"kernel.py"}


def test_only_the_store_imports_zarr() -> None:
    found = users(imported, lambda name: name.split(".")[0] == "zarr")
    assert found
    assert all(module.startswith("store/") for module in found)


def test_only_the_cluster_the_dispatch_and_lazy_arrays_know_dask() -> None:
    found = users(imported, lambda name: name.split(".")[0] in ("dask", "distributed"))
    folders = {module.split("/")[0] for module in found}
    assert folders == {"cluster", "dispatch.py", "lazy.py", "worker.py"}


@pytest.mark.parametrize("package", ["click", "rich"])
def test_only_the_command_line_knows_how_to_print(package: str) -> None:
    found = users(imported, lambda name: name.split(".")[0] == package)
    assert found
    assert all(module.startswith("cli/") for module in found)


def test_only_the_command_line_prints_or_exits() -> None:
    ways = ("print", "exit", "quit", "sys.exit", "os._exit", "os.abort", "sys.stdout.write")
    found = users(called, lambda name: name in ways or name.startswith("traceback.print"))
    assert found <= {"cli/__init__.py"}


def test_only_the_command_line_configures_logging() -> None:
    ways = ("logging.basicConfig", "warnings.filterwarnings", "warnings.simplefilter")
    assert users(called, lambda name: name in ways) <= {"cli/__init__.py"}

"""The layers: imports go down only, parts of one layer do not know each other, and workers stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "gateway"

# From the top down. A module may import from layers below its own, and from its own part.
LAYERS: Final = (
    {"__main__"},
    {"cli"},
    {"client", "demo"},
    {"supervisor"},
    {"proxy", "control"},
    {"policies", "services"},
    {"cache", "changes", "recording", "store"},
    {"keys"},
    {"lifecycle", "logs", "extensions", "garbage"},
    {"settings"},
    {"errors"},
)
DEPTH: Final = {part: depth for depth, parts in enumerate(LAYERS) for part in parts}

MODULES: Final = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))


def _tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def _imports(module: str) -> Iterator[str]:
    """Every module that is imported anywhere in the file, for types only as well, by its full name."""
    for node in ast.walk(_tree(module)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module="gateway", names=names):
                yield from (f"gateway.{alias.name}" for alias in names if alias.name != "__version__")
            case ast.ImportFrom(module=name, level=level):
                assert level == 0, f"{module}: relative imports hide which layer is meant"
                yield name or ""


def _parts(module: str) -> Iterator[str]:
    """The parts of this package that the file imports."""
    return (name.split(".")[1] for name in _imports(module) if name.startswith("gateway."))


def _part(module: str) -> str:
    return Path(module).with_suffix("").parts[1]


@pytest.mark.parametrize("module", [module for module in MODULES if module != "gateway/__init__.py"])
def test_imports_go_down_only(module: str) -> None:
    part = _part(module)
    assert part in DEPTH, f"{part} has no place in the layers yet"
    upward = {other for other in _parts(module) if other != part and DEPTH[other] <= DEPTH[part]}
    assert not upward, f"{module} imports {sorted(upward)}, which do not lie below {part}"


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("gateway/keys/")])
def test_the_domain_imports_nothing_but_the_standard_library(module: str) -> None:
    for name in _imports(module):
        assert name.startswith("gateway.keys") or name.split(".")[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize("part", ["proxy", "control"])
def test_one_file_per_process_names_the_store(part: str) -> None:
    """Everything else gets what it needs handed in, so another backend touches one file."""
    knowing = [module for module in MODULES if _part(module) == part and "store" in _parts(module)]
    assert knowing == [f"gateway/{part}/process.py"]


@pytest.mark.parametrize("module", [module for module in MODULES if module.endswith("__init__.py")])
def test_packages_hold_a_docstring_and_nothing_else(module: str) -> None:
    """A re-export would make whoever imports one light module pay for its heavy neighbours.

    The client's is the exception: it is the face of a library, and what it offers needs all of it.
    """
    _, *rest = _tree(module).body  # that the first one is a docstring, the next test says
    if module == "gateway/client/__init__.py":
        *rest, offered = rest
        assert all(isinstance(node, ast.ImportFrom) for node in rest)
        assert isinstance(offered, ast.Assign)
        return
    version = ["Assign"] if module == "gateway/__init__.py" else []
    assert [type(node).__name__ for node in rest] == version


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("gateway/client/")])
def test_the_client_knows_nothing_of_the_gateway_but_its_api(module: str) -> None:
    """It is for programs elsewhere; what it took from inside would be promised to them."""
    assert set(_parts(module)) <= {"client"}


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(_tree(module)), module


@pytest.mark.parametrize(
    ("entry", "unwanted"),
    [
        ("gateway.proxy.process", {"sqlalchemy", "alembic", "typer", "jinja2"}),
        ("gateway.control.process", {"sqlalchemy", "alembic", "typer", "aiohttp"}),
        ("gateway.supervisor.foreground", {"sqlalchemy", "alembic", "aiohttp", "uvloop"}),
        ("gateway.cli.main", {"sqlalchemy", "alembic", "aiohttp", "uvloop", "pydantic", "httpx"}),
        ("gateway.client", {"sqlalchemy", "alembic", "aiohttp", "uvloop", "typer"}),
        ("gateway.store.sqlite_reader", {"sqlalchemy", "alembic", "aiohttp", "pydantic"}),
    ],
)
def test_a_process_does_not_load_what_it_does_not_use(entry: str, unwanted: set[str]) -> None:
    """Of a process's memory and start-up time; imports that come later, when they are needed, are not its concern."""
    program = f"import sys, {entry}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not unwanted & set(loaded)

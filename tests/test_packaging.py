"""What ships: the container runs without rights, the package asks for no more than it imports, scripts are sound."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Final

import pytest

from gateway.cli.compilation import WITNESS

ROOT: Final = Path(__file__).parents[1]
PYPROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: Final = PYPROJECT["project"]
COMPILATION: Final = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]

# Distribution → module, where they differ. No module: needed by another one, through a URL scheme or as its speed-up.
MODULES: Final = {"sqlalchemy[asyncio]": "sqlalchemy", "prometheus-client": "prometheus_client"}
NOT_IMPORTED: Final = {
    "aiosqlite": "SQLAlchemy's driver, named in a URL",
    "orjson": "for the recorder and the admin API",
}


def _dockerfile() -> list[tuple[str, str]]:
    """Instruction and arguments, in order, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


def _last(instruction: str) -> str:
    return [arguments for name, arguments in _dockerfile() if name == instruction][-1]


def test_the_image_is_built_in_two_stages_and_only_the_result_is_copied() -> None:
    stages = [arguments for name, arguments in _dockerfile() if name == "FROM"]
    assert stages == ["python:3.13-slim AS build", "python:3.13-slim"]
    final = _dockerfile()[[name for name, _ in _dockerfile()].index("FROM", 1) :]
    copied = [arguments for name, arguments in final if name == "COPY"]
    assert copied == ["--from=build /opt/keygate /opt/keygate"]


def test_the_image_has_the_compiled_data_plane_and_no_compiler() -> None:
    stages = [number for number, (name, _) in enumerate(_dockerfile()) if name == "FROM"]
    build = " ".join(arguments for name, arguments in _dockerfile()[: stages[1]] if name == "RUN")
    final = " ".join(arguments for name, arguments in _dockerfile()[stages[1] :] if name == "RUN")
    assert "HATCH_BUILD_HOOKS_ENABLE=1 pip wheel" in build
    assert "gcc" in build
    assert "apt-get" not in final


def test_the_container_runs_without_rights_and_writes_to_its_volume_alone() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", _last("USER"))
    assert _last("VOLUME") == _last("WORKDIR") == "/data"
    assert "GATEWAY__STORE__URL=sqlite:////data/gateway.db" in _last("ENV")
    assert "PYTHONDONTWRITEBYTECODE=1" in _last("ENV")  # the root file system may be read-only


def test_the_container_reports_its_health_and_is_stopped_by_a_drain() -> None:
    assert "http://127.0.0.1:8081/healthz" in _last("HEALTHCHECK")
    assert _last("STOPSIGNAL") == "SIGTERM"
    assert ast.literal_eval(_last("ENTRYPOINT")) == ["gateway"]  # no shell that would swallow the signal


def test_what_the_image_is_built_from_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    wanted = [
        arguments.split()[:-1] for name, arguments in _dockerfile() if name == "COPY" and "--from" not in arguments
    ]
    assert "*" in ignored
    for source in (source for sources in wanted for source in sources):
        assert f"!{source}" in ignored
        assert (ROOT / source).exists()


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_each_runtime_dependency_is_used_or_says_why_it_is_there(requirement: str) -> None:
    name = re.split("[<>=]", requirement)[0]
    module = MODULES.get(name, name)
    pattern = re.compile(rf"^\s*(?:import|from) {re.escape(module)}\b", re.MULTILINE)
    used = any(pattern.search(path.read_text()) for path in (ROOT / "gateway").rglob("*.py"))
    assert used or name in NOT_IMPORTED


def test_every_extra_and_the_script_are_what_the_readme_promises() -> None:
    assert PROJECT["scripts"] == {"gateway": "gateway.cli.main:main"}
    assert set(PROJECT["optional-dependencies"]) == {"postgres", "bench", "dev"}
    assert PROJECT["requires-python"] == ">=3.11"


def _compiled() -> set[str]:
    """The modules that the compiled wheel has as extension modules."""
    found = {path.relative_to(ROOT).as_posix() for pattern in COMPILATION["compile"] for path in ROOT.glob(pattern)}
    return found - set(COMPILATION["interpreted"])


def test_a_checkout_needs_no_compiler() -> None:
    assert COMPILATION["enable-by-default"] is False


def test_the_list_of_compiled_modules_names_what_exists() -> None:
    for pattern in (*COMPILATION["compile"], *COMPILATION["interpreted"]):
        assert list(ROOT.glob(pattern)), pattern
    assert f"{WITNESS.replace('.', '/')}.py" in _compiled()


@pytest.mark.parametrize("module", sorted(_compiled()))
def test_nothing_is_compiled_that_only_the_control_side_runs(module: str) -> None:
    assert module.split("/")[1] in {"cache", "keys", "policies", "proxy", "recording"}


def test_the_checkout_has_no_extension_module_that_would_hide_its_source() -> None:
    assert not list((ROOT / "gateway").rglob("*.so"))


def test_the_source_distribution_has_all_that_the_compiled_wheel_is_built_from(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (archive,) = tmp_path.glob("keygate-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"hatch_build.py", "pyproject.toml", "README.md", "LICENSE", *_compiled()} <= names


@pytest.mark.parametrize("script", ["run", "environment", "system-packages", "compiler"])
def test_scripts_are_executable_and_stop_at_the_first_error(script: str) -> None:
    path = ROOT / ".ci" / script
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_missing_programs_are_named_with_their_packages_where_they_cannot_be_installed(tmp_path: Path) -> None:
    """On a machine with hardly anything, and no apt-get: it says what to install, and does not fail."""
    for tool in ("bash", "dirname", "id", "env"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    script = (ROOT / ".ci" / "system-packages").read_text().replace(":/usr/sbin:/sbin", "")
    copy = tmp_path / ".ci" / "system-packages"
    copy.parent.mkdir()
    copy.write_text(script)
    (tmp_path / "tests").mkdir()
    listed = (ROOT / "tests" / "system-packages.txt").read_text()
    (tmp_path / "tests" / "system-packages.txt").write_text(listed)
    done = subprocess.run(
        ["/usr/bin/bash", str(copy)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    packages = [line.split()[1] for line in listed.splitlines() if line and not line.startswith("#")]
    assert done.returncode == 0
    assert done.stderr.strip().endswith("Install: sudo apt-get install " + " ".join(packages))


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    """On a machine with hardly anything, and no apt-get."""
    (tmp_path / "id").symlink_to("/usr/bin/id")
    environ = {name: value for name, value in os.environ.items() if name != "CC"} | {"PATH": str(tmp_path)}
    done = subprocess.run(
        ["/usr/bin/bash", str(ROOT / ".ci" / "compiler"), sys.executable],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Install: sudo apt-get install gcc libc6-dev" in done.stderr

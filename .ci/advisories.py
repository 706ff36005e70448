"""Asks whether a version that this package has installed, or would allow, has a known advisory.

    python .ci/advisories.py .venv/bin/pip-audit

Two lists are asked about: what is installed of the runtime dependencies, with those of dependencies, and the lower
bounds of pyproject.toml, which nobody has installed and anybody may. Developers' tools are not: they meet no stranger.

Invariant: "no advisory is known" is said only of packages that the service answered for. pip-audit says "No known
vulnerabilities found" and exits with 0 where an index has no advisories to give (a mirror) and everything was skipped;
so its report is counted, not its word taken. Exit status: 0 where nothing is known or nobody could be asked (which is
told), 1 where an advisory is known, 2 where KEYGATE_ADVISORIES=required and not everything was answered.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE: Final = "keygate"
EXTRAS: Final = ("", "postgres")
"""What the image has; other extras are for developers."""
_PYPROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"
_TIMEOUT_SECONDS: Final = "10"  # for each answer
_LONGEST_SECONDS: Final = 300


def main(pip_audit: str) -> int:
    """Ask about both lists and say what came of it."""
    worst = 0
    for name, pins in (("installed", installed()), ("lower bounds", lower_bounds())):
        known, unanswered, reason = asked(pip_audit, pins)
        for line in known:
            _say(f"{name}: {line}")
        if unanswered:
            _say(f"{name}: {len(unanswered)} of {len(pins)} NOT checked for advisories ({reason}).")
        answered = len(pins) - len(unanswered)
        if answered and not known:
            _say(f"{name}: no advisory is known for the {answered} packages that were checked.")
        required = os.environ.get("KEYGATE_ADVISORIES") == "required"
        worst = max(worst, 1 if known else 0, 2 if unanswered and required else 0)
    return worst


def asked(pip_audit: str, pins: dict[str, str]) -> tuple[list[str], set[str], str]:
    """Return the advisories, the packages that nobody answered for, and why not."""
    with tempfile.TemporaryDirectory() as directory:
        listed = Path(directory) / "requirements.txt"
        listed.write_text("".join(f"{name}=={pinned}\n" for name, pinned in sorted(pins.items())))
        command = [pip_audit, "--requirement", str(listed), "--no-deps", "--disable-pip", "--format", "json"]
        command += ["--progress-spinner", "off", "--timeout", _TIMEOUT_SECONDS]
        try:
            done = subprocess.run(  # noqa: S603 - the tool that the caller names
                command, capture_output=True, text=True, check=False, timeout=_LONGEST_SECONDS
            )
            report = json.loads(done.stdout)["dependencies"]
        except subprocess.TimeoutExpired:
            return [], set(pins), f"no answer in {_LONGEST_SECONDS} s"
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = str(error) if isinstance(error, OSError) else _first_error(done.stderr)
            return [], set(pins), said
    return _read(report, pins)


def _first_error(said: str) -> str:
    """Choose the line that names the cause; advice follows it."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:pip_audit._cli:") for line in lines if line.startswith("ERROR")]
    return (errors or lines[-1:] or ["pip-audit said nothing"])[0]


def _read(report: list[dict[str, object]], pins: dict[str, str]) -> tuple[list[str], set[str], str]:
    """Judge what the report says of each package; one that it leaves out was not checked either."""
    known, unanswered, reason = [], set(pins), "pip-audit left them out"
    for each in report:
        name = _normal(str(each.get("name")))
        if "skip_reason" in each:
            reason = str(each["skip_reason"])
            continue
        unanswered.discard(name)
        found = each.get("vulns")
        for one in found if isinstance(found, list) else []:
            mended = ", ".join(one.get("fix_versions", [])) or "no version yet"
            known.append(f"{name} {each.get('version')}: {one.get('id')}, mended in {mended}")
    return known, unanswered, reason


def installed() -> dict[str, str]:
    """Return name and version of everything that this package needs at run time, here."""
    found: dict[str, str] = {}
    waiting = [(PACKAGE, extra) for extra in EXTRAS]
    while waiting:
        package, extra = waiting.pop()
        for one in _needed(package, extra):
            name = _normal(one.name)
            try:
                here = version(name)
            except PackageNotFoundError:  # of an extra that is not installed
                continue
            if name not in found:
                found[name] = here
                waiting.append((name, ""))
            waiting.extend((name, each) for each in one.extras)
    return found


def lower_bounds() -> dict[str, str]:
    """Return name and lowest allowed version of what pyproject.toml asks for."""
    project = tomllib.loads(_PYPROJECT.read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in EXTRAS if extra for text in _extra(project, extra))]
    found = {}
    for one in map(Requirement, texts):
        (lowest,) = [each.version for each in one.specifier if each.operator == ">="]
        found[_normal(one.name)] = lowest
    return found


def _extra(project: dict[str, dict[str, list[str]]], extra: str) -> list[str]:
    return project["optional-dependencies"][extra]


def _needed(package: str, extra: str) -> Iterator[Requirement]:
    needed: Iterable[str] = requires(package) or ()
    for text in needed:
        one = Requirement(text)
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            yield one


def _normal(name: str) -> str:
    """One spelling per package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - a command for developers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

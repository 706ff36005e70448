"""Build hook: a wheel whose hot modules are extension modules, compiled from the same files with mypyc.

Off by default, so that an editable install or a source checkout needs no C compiler; `HATCH_BUILD_HOOKS_ENABLE=1`
turns it on. Which modules are compiled is said in one place, `[tool.hatch.build.targets.wheel.hooks.custom]` of
pyproject.toml.

Invariant: nothing is written into the source tree. An extension module left beside its `.py` would be what every later
run of the checkout imports, whatever the source says by then. That is why hatch-mypyc was turned down: it builds in
place, and moves pyproject.toml away meanwhile.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GROUP = "keygate"  # names the shared library that holds all the code: keygate__mypyc
# Whether the types are as strict as they should be is `make check`'s business, not that of who builds a wheel.
MYPY_OPTIONS = ("--config-file=", "--follow-imports=silent", "--ignore-missing-imports")
# All our code is one shared library, of which others need one function: that which begins it. Left to itself, the
# compiler expects that somebody replaces any other, inlines few of them and calls them, as it calls Python's, by way of
# stubs (the procedure linkage table): a thousand a request. The figures are in docs/compilation.md.
COMPILER_OPTIONS = ("-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt")


class CompiledModules(BuildHookInterface[BuilderConfig]):
    """Adds the extension modules to a wheel, and its tags of platform and interpreter with them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the wheel is an editable one: that is a pointer to the source."""
        if version == "editable":
            return
        self._made = tempfile.TemporaryDirectory(prefix="keygate-compiled-")
        for path in self._compile(Path(self._made.name)):
            build_data["force_include"][str(path)] = path.relative_to(self._made.name + "/lib").as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Throw away what was made: the wheel has it."""
        if version != "editable":
            self._made.cleanup()

    def modules(self) -> list[str]:
        """Return the files to compile, relative to the root of the project."""
        root = Path(self.root)
        found = {path for pattern in self.config["compile"] for path in root.glob(pattern)}
        left = {root / name for name in self.config["interpreted"]}
        return sorted(path.relative_to(root).as_posix() for path in found - left)

    def _compile(self, directory: Path) -> list[Path]:
        # Installed only where something is compiled: see `dependencies` beside the list of modules.
        from mypyc.build import mypycify  # noqa: PLC0415
        from setuptools import Distribution  # noqa: PLC0415 - after mypyc: that patches it
        from setuptools.command.build_ext import build_ext  # noqa: PLC0415

        with contextlib.chdir(self.root):
            extensions = mypycify(
                [*MYPY_OPTIONS, f"--cache-dir={directory / 'mypy'}", *self.modules()],
                opt_level="3",
                group_name=GROUP,
                target_dir=str(directory / "c"),
            )
            for extension in extensions:
                extension.extra_compile_args = [*extension.extra_compile_args, *COMPILER_OPTIONS]
            command = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
            command.build_lib, command.build_temp = str(directory / "lib"), str(directory / "objects")
            command.ensure_finalized()
            command.run()
        return sorted(path for path in (directory / "lib").rglob("*") if path.is_file())

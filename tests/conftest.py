"""Fixtures that install the fake plugins of `tests/fake_plugins`, without the network."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from partfit.registry import PLUGINS_VARIABLE, Registry, default_registry

FAKE_PLUGINS = Path(__file__).parent / "fake_plugins"


@attrs.frozen
class Site:
    """A folder of installed distributions."""

    path: Path

    def install(self, *names: str) -> None:
        """Install fake plugins."""
        for name in names:
            self.install_project(FAKE_PLUGINS / name)

    def install_project(self, folder: Path) -> None:
        """Install a project as an installer would: its modules and a `*.dist-info` folder."""
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        for module in folder.glob("*.py"):
            shutil.copy(module, self.path)
        for package in folder.glob("*/__init__.py"):
            shutil.copytree(package.parent, self.path / package.parent.name)
        info = self.path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(_entry_points_text(project["entry-points"]))

    def registry(self, *only: str) -> Registry:
        """A registry of what is installed here, and of nothing else."""
        found = importlib.metadata.distributions(path=[str(self.path)])
        return Registry([entry for dist in found for entry in dist.entry_points], only=only)

    def run(
        self, *arguments: str, plugins: str = "core", command: tuple[str, ...] = ("-m", "partfit")
    ) -> subprocess.CompletedProcess[str]:
        """Run `partfit` in a process that sees this folder, loading the named plugins."""
        environment = {**os.environ, "PYTHONPATH": str(self.path), PLUGINS_VARIABLE: plugins}
        return subprocess.run(
            [sys.executable, *command, *arguments],
            env=environment,
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def _entry_points_text(groups: dict[str, dict[str, str]]) -> str:
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), ""]
    return "\n".join(lines)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder of distributions, importable during the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield Site(folder)
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]


@pytest.fixture
def restrict_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set PARTFIT_PLUGINS for the registry that the test builds by default."""
    default_registry.cache_clear()
    yield lambda names: monkeypatch.setenv(PLUGINS_VARIABLE, names)
    default_registry.cache_clear()

"""The plugin of `examples/partfit-foot` as a third party would ship it: built, installed, proved, fitted."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "examples" / "partfit-foot"
COMPONENTS = {
    ("detector", "foot-stickers"),
    ("embedding", "foot-left/foot-markers"),
    ("embedding", "foot-right/foot-markers"),
    ("landmarker", "foot-stickers"),
    ("model", "foot"),
    ("recipe", "foot"),
}


@attrs.frozen
class Installed:
    """A folder that the plugin's wheel was unpacked into, in front of everything else."""

    site: Path

    def run(self, *command, cwd):
        """Run Python in a process that sees the core's components, and this plugin's."""
        environment = {**os.environ, "PYTHONPATH": str(self.site), "PARTFIT_PLUGINS": "foot"}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return Installed(folder / "site")


def test_its_wheel_is_complete(plugin):
    names = {path.relative_to(plugin.site).as_posix() for path in plugin.site.rglob("*") if path.is_file()}
    assert "partfit_foot/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith("partfit_foot") for name in names)


def test_it_is_listed(plugin, tmp_path):
    records = json.loads(plugin.run("-m", "partfit", "plugins", "--json", cwd=tmp_path))
    (own,) = [record for record in records if record["distribution"] == "partfit-foot"]
    assert own["failures"] == []
    records = json.loads(plugin.run("-m", "partfit", "components", "--json", cwd=tmp_path))
    listed = {(record["kind"], record["name"]) for record in records if "partfit-foot" in str(record)}
    assert listed == COMPONENTS


@pytest.mark.slow
def test_its_own_tests_pass(plugin, tmp_path):
    """Against the wheel, and the test of the command line is among them."""
    check = f"import partfit_foot; assert partfit_foot.__file__.startswith({str(plugin.site)!r})"
    plugin.run("-c", check, cwd=tmp_path)
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:dash", "--import-mode=importlib")
    out = plugin.run(
        "-m", "pytest", *options, "--rootdir", str(PROJECT), str(PROJECT / "tests"), cwd=tmp_path
    )
    assert re.search(r"\d+ passed", out)
    assert "skipped" not in out


@pytest.mark.slow
def test_the_commands_of_its_readme_work(plugin, tmp_path):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    lines = [
        shlex.split(line)[1:]
        for line in readme.splitlines()
        if re.match(r"\$ (partfit|python -m partfit)", line)
    ]
    assert len(lines) == 3
    for program, *arguments in lines:
        plugin.run(*(["-m", "partfit"] if program == "partfit" else []), *arguments, cwd=tmp_path)
    document = json.loads((tmp_path / "feet" / "foot-0.json").read_text())
    assert (document["part"], document["side"], document["status"]) == ("foot", "left", "converged")
    assert (tmp_path / "feet" / "foot-panel.png").exists()


def test_the_core_knows_nothing_of_it():
    """No file of the core names it, and it takes from the core only what is public."""
    names = re.compile(r"partfit.foot|foot-(left|right|markers|stickers)|['\"]foot['\"]")
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]
    assert [path for path in sources if names.search(path.read_text(encoding="utf-8"))] == []
    private = re.compile(r"from partfit(\.\w+)*\._|from partfit\S* import .*\b_\w")
    for path in PROJECT.rglob("*.py"):
        assert not private.search(path.read_text(encoding="utf-8")), f"{path} uses what is private"


def test_its_pages_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", (PROJECT / "README.md").read_text(encoding="utf-8")):
        assert (PROJECT / target).exists()


def test_the_files_of_the_page_work_as_saved(tmp_path, monkeypatch):
    """Those that `docs/writing-a-plugin.md` names in their first line: its tests, and what these import."""
    page = (ROOT / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
    for name, text in re.findall(r"^```\w+\n# (\S+\.py)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "src")
    suite = runpy.run_path(str(tmp_path / "tests" / "test_detector.py"))["TestWholePicture"]()
    names = [name for name in dir(suite) if name.startswith("test_")]
    assert len(names) > 5
    for name in names:
        getattr(suite, name)()
    for name in [name for name in sys.modules if name.split(".")[0] == "partfit_whole"]:
        del sys.modules[name]

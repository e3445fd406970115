"""The wheels hold what a user needs, and work without the source tree."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = {
    "partfit": ["partfit/py.typed", "licenses/LICENSE"],
    "partfit_anny": [
        "partfit_anny/py.typed",
        "licenses/LICENSE",
        "licenses/LICENSE-CC0",
        "licenses/NOTICE",
    ],
    "partfit_dad3dheads": ["partfit_dad3dheads/py.typed", "licenses/LICENSE"],
    "partfit_dense": ["partfit_dense/py.typed", "partfit_dense/dense.safetensors", "licenses/LICENSE"],
    "partfit_flame": ["partfit_flame/py.typed", "licenses/LICENSE"],
    "partfit_gnm": ["partfit_gnm/py.typed", "licenses/LICENSE"],
    "partfit_likelihoods": ["partfit_likelihoods/py.typed", "licenses/LICENSE"],
    "partfit_mano": ["partfit_mano/py.typed", "licenses/LICENSE"],
    "partfit_mediapipe": [
        "partfit_mediapipe/py.typed",
        "licenses/LICENSE",
        "licenses/NOTICE",
    ],
    "partfit_spiralnet": ["partfit_spiralnet/py.typed", "licenses/LICENSE"],
    "partfit_synthetic": ["partfit_synthetic/py.typed", "licenses/LICENSE"],
    "partfit_theseus": ["partfit_theseus/py.typed", "licenses/LICENSE"],
}


#: The models of the others are the users' own files.
WITH_ASSETS = ("partfit_anny", "partfit_mediapipe")
PLUGINS = [name for name in PROJECTS if name != "partfit"]
#: Of the core's tests those of pure arithmetic, which a wheel cannot change, and those that build wheels.
LEFT_OUT = (
    "fitting",
    "geometry",
    "models",
    "testing/test_strategies.py",
    "test_wheels.py",
    "test_worked_plugin.py",
)
#: What the tests read, besides the plugins' own; the sources are not among it.
CHECKOUT = ("pyproject.toml", "conftest.py", "README.md", "tests", "docs", "examples", "benchmarks")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, *sorted((ROOT / "plugins").glob("partfit-*"))):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=project, check=True, capture_output=True)
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


@attrs.frozen
class Environment:
    """A virtual environment of installed wheels over the workspace's third-party packages, and a checkout.

    Nothing is taken from an index, and the sources are not in the checkout.
    """

    folder: Path

    @classmethod
    def of(cls, wheels, folder):
        """Install as an installer would: files, metadata and the command."""
        venv.create(folder / "env", with_pip=False, symlinks=True)
        site, packages = folder / "site", folder / "third-party"
        packages.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            # not the workspace's own distributions, nor the `.pth` files that point to their sources
            if not entry.name.lstrip("_").startswith(("partfit", "editable")) and entry.suffix != ".pth":
                (packages / entry.name).symlink_to(entry)
        for wheel in wheels:
            zipfile.ZipFile(wheel).extractall(site)
        environment = cls(folder)
        python = environment.python
        purelib = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        )
        Path(purelib.strip(), "wheels.pth").write_text(f"{site}\n{packages}\n")
        command = python.with_name("partfit")
        command.write_text(f"#!{python}\nimport sys\nfrom partfit.cli import main\nsys.exit(main())\n")
        command.chmod(0o755)
        return environment

    @property
    def python(self):
        """Its interpreter."""
        return self.folder / "env" / "bin" / "python"

    @property
    def checkout(self):
        """Tests, documentation and examples, without sources."""
        return self.folder / "checkout"

    def check_out(self, *names):
        """Copy a part of the checkout."""
        ignored = shutil.ignore_patterns("__pycache__", "node_modules", "src")
        for name in names:
            target = self.checkout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=ignored)
            else:
                shutil.copy(ROOT / name, target)

    def run(self, *command, check=True):
        """Run its Python in the checkout."""
        tests = self.checkout / "tests"
        changes = {"PYTHONPATH": str(tests), "HYPOTHESIS_PROFILE": "wheels", "OMP_NUM_THREADS": "1"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [self.python, *command],
            cwd=self.checkout,
            env={**inherited, **changes},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout[-5000:] + done.stderr[-5000:]
        return done

    def assert_installed(self, *packages):
        """These, and no others of the workspace, are importable, and come from the wheels."""
        found = {}
        for name in PROJECTS:
            code = f"import importlib.util as u; print(getattr(u.find_spec({name!r}), 'origin', None))"
            found[name] = self.run("-c", code).stdout.strip()
        expected = {name: str(self.folder / "site" / name / "__init__.py") for name in packages}
        assert found == {name: expected.get(name, "None") for name in PROJECTS}

    def test(self, *arguments):
        """What pytest prints: tests that are not slow, each skipped one with its reason."""
        options = ("-q", "-ra", "-p", "needed_plugins", "-p", "no:cacheprovider", "-m", "not slow")
        return self.run("-m", "pytest", *options, *arguments).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTS)
def test_a_wheel_holds_its_data_and_licences(wheels, name):
    names = zipfile.ZipFile(wheels[name]).namelist()
    assets = [f"{name}/assets/{path.name}" for path in ROOT.glob(f"plugins/*/src/{name}/assets/*.*")]
    assert len(assets) >= (3 if name in WITH_ASSETS else 0)
    for wanted in (*PROJECTS[name], *assets):
        assert any(entry.endswith(wanted) for entry in names), f"{name} lacks {wanted}"
    other = [entry for entry in names if entry.split("/")[0].split("-")[0] != name]
    assert other == [], f"{name} holds files of other packages"


def test_every_distribution_is_listed():
    assert {path.name.replace("-", "_") for path in ROOT.glob("plugins/partfit-*")} == set(PLUGINS)


def required_plugins(wheel):
    """The plugins that the metadata of a plugin's wheel asks for."""
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    required = re.findall(
        r"^Requires-Dist: (partfit-[a-z0-9]+)", archive.read(metadata).decode(), re.MULTILINE
    )
    return [name.replace("-", "_") for name in required]


@pytest.mark.slow
def test_the_core_alone(wheels, tmp_path):
    """Its tests pass without any plugin; those that need one are skipped, and say so."""
    environment = Environment.of([wheels["partfit"]], tmp_path)
    environment.check_out(*CHECKOUT)
    environment.assert_installed("partfit")
    listed = environment.run("-m", "partfit", "components").stdout
    assert {line.split()[2] for line in listed.splitlines()} == {"partfit"}
    done = environment.run("-m", "partfit", "fit", "examples/hand.png", "--out", "out", check=False)
    assert done.returncode != 0
    assert 'pip install "partfit[default]"' in done.stderr
    out = environment.test("tests", *(f"--ignore=tests/{name}" for name in LEFT_OUT))
    assert "needs partfit-anny and partfit-mediapipe, which is not installed" in out
    assert int(re.search(r"(\d+) passed", out).group(1)) > 500


@pytest.mark.slow
@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_beside_the_core(wheels, name, tmp_path):
    """Its own tests pass with no other plugin installed than those that it requires."""
    packages = ["partfit", name, *required_plugins(wheels[name])]
    environment = Environment.of([wheels[package] for package in packages], tmp_path)
    project = f"plugins/{name.replace('_', '-')}"
    environment.check_out("pyproject.toml", "conftest.py", "examples", "tests/needed_plugins.py", project)
    environment.assert_installed(*packages)
    assert re.search(r"\d+ passed", environment.test(f"{project}/tests"))


@pytest.mark.slow
def test_the_wheels_alone_fit_a_photograph(wheels, tmp_path):
    """Unpacked into one folder that comes before everything else: nothing is taken from the source tree."""
    site = tmp_path / "site"
    for wheel in wheels.values():
        zipfile.ZipFile(wheel).extractall(site)
    shutil.copy(ROOT / "examples" / "astronaut.jpg", tmp_path / "photo.jpg")
    shutil.copy(ROOT / "examples" / "hand.png", tmp_path / "hand.png")
    code = (
        "import sys, partfit, partfit_anny, partfit_mediapipe\n"
        "assert all('site' in m.__file__ for m in (partfit, partfit_anny, partfit_mediapipe))\n"
        "from partfit.cli import main\n"
        "main(['fit', 'photo.jpg', 'hand.png', '--part', 'face,hand', '--out', 'out'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "out" / "photo-0.glb").exists()
    assert (tmp_path / "out" / "hand-0.glb").exists()

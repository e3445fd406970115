"""The wheels hold what a user needs, and work without the source tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

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
    "partfit_mediapipe": [
        "partfit_mediapipe/py.typed",
        "licenses/LICENSE",
        "licenses/NOTICE",
    ],
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, *sorted((ROOT / "plugins").glob("partfit-*"))):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=project, check=True, capture_output=True)
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTS)
def test_a_wheel_holds_its_data_and_licences(wheels, name):
    names = zipfile.ZipFile(wheels[name]).namelist()
    assets = [f"{name}/assets/{path.name}" for path in ROOT.glob(f"plugins/*/src/{name}/assets/*.*")]
    assert name == "partfit" or len(assets) >= 3
    for wanted in (*PROJECTS[name], *assets):
        assert any(entry.endswith(wanted) for entry in names), f"{name} lacks {wanted}"
    other = [entry for entry in names if entry.split("/")[0].split("-")[0] != name]
    assert other == [], f"{name} holds files of other packages"


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

"""Every example runs, in an empty folder, and says something."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_it_runs(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_hand_is_that_of_the_plugin_s_tests():
    root = Path(__file__).parents[1]
    copy = root / "plugins" / "partfit-mediapipe" / "tests" / "data" / "hand.png"
    assert (root / "examples" / "hand.png").read_bytes() == copy.read_bytes()

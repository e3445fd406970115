"""The snippets of README and docs, run as written, page by page in a folder with `photo.jpg` and `hand.png`.

Blocks of `python` run in sequence in one namespace; lines of `console` blocks that begin with `$ partfit`
are run as commands and must succeed.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from partfit.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page_id(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTFIT_CACHE", str(tmp_path / "cache"))
    shutil.copy(ROOT / "examples" / "astronaut.jpg", "photo.jpg")
    shutil.copy(ROOT / "examples" / "hand.png", "hand.png")
    namespace = {"__name__": "snippet"}
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(text, page.name, "exec"), namespace)
        else:
            for line in text.splitlines():
                if line.startswith("$ partfit "):
                    result = CliRunner().invoke(main, shlex.split(line)[2:])
                    assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for command in COMMANDS:
        assert f"partfit {command}" in text, f"no page mentions `partfit {command}`"


def test_the_plugin_of_the_page_works(site):
    """The files that `docs/writing-a-plugin.md` shows, installed, and the output that it promises."""
    page = (ROOT / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
    files = re.findall(r"^```\w+\n# (src/partfit_whole/\S+|pyproject.toml)\n(.*?)^```$", page, re.M | re.S)
    folder = site.path.parent / "partfit-whole"
    for name, text in files:
        path = folder / name.removeprefix("src/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "partfit_whole" / "__init__.py").touch()
    site.install_project(folder)
    expected = re.search(r"^\$ partfit check partfit-whole\n(.*?)^```$", page, re.M | re.S).group(1)
    done = site.run("check", "partfit-whole", plugins="whole")
    assert done.stdout == expected, done.stderr
    assert done.returncode == 0

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from partfit.cli import COMMANDS, main

if TYPE_CHECKING:
    from conftest import Site


def test_plugins_lists_what_was_found_and_what_failed(site: Site) -> None:
    site.install("good", "broken", "malformed", "duplicate")
    result = site.run("plugins", plugins="good,broken,malformed")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "partfit-fake-good:good 1.2.0" in lines
    assert "  detector/fake-box: The middle of the picture" in lines
    assert "  FAILED ModuleNotFoundError: No module named 'a_module_that_is_not_installed'" in lines
    assert "  FAILED detector/fake-twice: declared more than once by this plugin" in lines
    assert "  detector/fake-sound: Without fault" in lines
    assert "partfit-fake-duplicate:duplicate 0.3.0 (left out by PARTFIT_PLUGINS)" in lines
    assert any(line.startswith("partfit:core ") for line in lines)


def test_plugins_as_json(site: Site) -> None:
    site.install("good", "broken", "duplicate")
    result = site.run("plugins", "--json", plugins="good,broken")
    records = {record["name"]: record for record in json.loads(result.stdout)}
    good = records["partfit-fake-good:good"]
    assert (good["distribution"], good["version"]) == ("partfit-fake-good", "1.2.0")
    names = [component["name"] for component in good["components"]]
    assert names[:2] == ["fake-box", "fake-topology/fake-made"]
    assert good["failures"] == []
    (failure,) = records["partfit-fake-broken:broken"]["failures"]
    assert failure["reason"].startswith("ModuleNotFoundError")
    assert "fake_broken.py" in failure["traceback"]
    assert records["partfit-fake-duplicate:duplicate"]["skipped"]
    assert not good["skipped"]


def test_components_names_ambiguous_ones_in_full(site: Site) -> None:
    site.install("good", "duplicate")
    result = site.run("components", "--kind", "detector", plugins="good,duplicate")
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["detector", "partfit-fake-duplicate:fake-box"],
        ["detector", "partfit-fake-good:fake-box"],
        ["detector", "fake-needy"],
    ]


def test_components_as_json_with_a_note_of_failures(site: Site) -> None:
    site.install("good", "broken")
    result = site.run("components", "--kind", "embedding", "--json", plugins="good,broken")
    assert result.returncode == 0
    assert json.loads(result.stdout)[0] == {
        "kind": "embedding",
        "name": "fake-topology/fake-made",
        "target": "fake_good_components:make_embedding",
        "summary": "From a function",
        "api_version": 1,
        "qualified_name": "partfit-fake-good:fake-topology/fake-made",
        "plugin": "partfit-fake-good:good",
        "distribution": "partfit-fake-good",
        "version": "1.2.0",
    }
    assert result.stderr.startswith("With failures: partfit-fake-broken:broken.")


def test_components_without_a_kind_lists_the_core(site: Site) -> None:
    result = site.run("components")
    assert ["fitter", "lm", "partfit"] in [line.split()[:3] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    "name",
    [
        "fake-box",
        "detector/fake-box",
        "partfit-fake-good:fake-box",
        "fake-topology/fake-made",
        "embedding/fake-topology/fake-made",
    ],
)
def test_check_passes_a_component_that_can_be_built(site: Site, name: str) -> None:
    site.install("good")
    result = site.run("check", name, plugins="good")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("OK ")
    assert "(partfit-fake-good 1.2.0)" in result.stdout


@pytest.mark.parametrize(
    ("plugins", "name", "reason"),
    [
        ("good", "fake-needy", "fake-needy.path: missing. Expected a path"),
        ("wrong_base", "fake-unfinished", "class Unfinished must still define detect"),
        ("wrong_base", "fake-unmakeable", "RuntimeError: out of paper"),
        ("old_api", "partfit-fake-old-api", "written for plugin API version 0"),
        ("typo", "typo", "unknown hook 'partfit_componets'"),
        ("broken", "partfit-fake-broken:broken", "ModuleNotFoundError"),
    ],
)
def test_check_reports_why_a_component_or_plugin_fails(
    site: Site, plugins: str, name: str, reason: str
) -> None:
    site.install(plugins)
    result = site.run("check", name, plugins=plugins)
    assert result.returncode == 1
    assert result.stdout.startswith("FAILED ")
    assert reason in result.stdout


def test_check_of_a_plugin_checks_each_component(site: Site) -> None:
    site.install("good")
    result = site.run("check", "partfit-fake-good", plugins="good")
    assert result.returncode == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["OK", "plugin"],
        ["OK", "detector/fake-box"],
        ["NEEDS", "detector/fake-needy"],
        ["OK", "embedding/fake-topology/fake-made"],
        ["OK", "embedding/fake-topology/fake-object"],
    ]


def test_check_builds_a_component_with_options(site: Site) -> None:
    site.install("good")
    result = site.run("check", "detector/fake-needy", "--set", "path=a.npz", plugins="good")
    assert (result.returncode, result.stdout) == (0, "OK     detector/fake-needy (partfit-fake-good 1.2.0)\n")
    wide = ("--set", "path=a.npz", "--set", "fraction=wide")
    result = site.run("check", "fake-needy", *wide, plugins="good")
    assert result.returncode == 1
    assert "fake-needy.fraction: expected a number, found 'wide'" in result.stdout
    result = site.run("check", "partfit-fake-good", "--set", "path=a.npz", plugins="good")
    assert "--set goes with one component; 'partfit-fake-good' means detector/fake-box" in result.stderr


def test_check_of_a_plugin_that_was_left_out_fails(site: Site) -> None:
    site.install("good")
    result = site.run("check", "good", plugins="core")
    assert (result.returncode, result.stdout) == (
        1,
        "FAILED plugin partfit-fake-good:good: left out by PARTFIT_PLUGINS\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "fake-boks"], "error: No component or plugin named 'fake-boks'. Did you mean 'fake-box'?"),
        (["check", "fake-box"], "error: detector 'fake-box' is claimed by several plugins"),
        (["check", "detektor/x"], "error: No kind of component named 'detektor'. Did you mean 'detector'?"),
        (["components", "--kind", "hat"], "error: No kind of component named 'hat'. Kinds: "),
    ],
)
def test_errors_are_one_line_without_traceback(site: Site, arguments: list[str], message: str) -> None:
    site.install("good", "duplicate")
    result = site.run(*arguments, plugins="good,duplicate")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_an_unknown_plugin_in_the_environment_is_an_error(site: Site) -> None:
    result = site.run("plugins", plugins="absent")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: PARTFIT_PLUGINS: no plugin named 'absent'.")


def test_installed_command_answers_as_the_module_does(site: Site) -> None:
    import partfit

    assert site.run("--version").stdout == f"partfit {partfit.__version__}\n"
    entry = "from importlib.metadata import entry_points as e; e(group='console_scripts')['partfit'].load()()"
    result = site.run("components", command=("-c", entry))
    assert result.stdout == site.run("components").stdout


def test_every_command_has_a_help_line_that_is_not_cut() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.name == name
        summary = command.get_short_help_str(limit=45)
        assert summary
        assert not summary.endswith("...")
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_unknown_command_is_a_usage_error(restrict_plugins: Callable[[str], None]) -> None:
    restrict_plugins("core")
    result = CliRunner().invoke(main, ["chek"])
    assert result.exit_code == 2
    assert "No such command 'chek'" in result.stderr

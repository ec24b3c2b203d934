"""What is given to make reaches the commands as it was typed."""

import os
import re
import subprocess

import pytest

from shared_ops.settings import ROOT

ODD = 'price $5 $(shell touch owned) ${HOME} `id` "double" it\'s #4 50% \\ $$'
SHOWS = "STACK=printf '<%s>'"


def make(*arguments: str, **variables: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=inherited | variables,
        text=True,
        capture_output=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("target", "variable", "shown"),
    [
        ("search", "Q", "<search><--><{}>"),
        ("evaluate", "OUT", "<evaluate><--><{}>"),
        ("logs", "PROCESS", "<logs><--><{}>"),
        ("train", "REPO", "<train><--><{}>"),
        ("train", "DEPLOYMENT", "<train><--deployment={}>"),
        ("code-server", "REPO", "<code-server><--><{}>"),
        ("rollback", "SET", "<rollback><--><{}>"),
        ("rollback", "WHY", "<rollback><--why={}>"),
        ("reproduce", "RELEASE", "<reproduce><--><{}>"),
        ("explain", "RELEASE", "<explain><--><{}>"),
        ("freeze", "WHY", "<freeze><--why={}>"),
        ("thaw", "WHY", "<thaw><--why={}>"),
        ("pin", "FAMILY", "<pin><--><{}>"),
        ("unpin", "FAMILY", "<unpin><--><{}>"),
        ("promote", "SET", "<promote><--><{}>"),
        ("promote", "RELEASES", "<promote><--releases={}>"),
        ("runs", "N", "<runs><--><{}>"),
        ("simulate", "SESSIONS", "<simulate><--sessions={}>"),
        ("simulate", "DRIFT", "<simulate><--drift={}>"),
    ],
)
def test_a_variable_is_taken_as_it_was_typed(target: str, variable: str, shown: str) -> None:
    assert make(target, f"{variable}={ODD}", SHOWS) == shown.format(ODD)
    assert make(target, SHOWS, **{variable: ODD}) == shown.format(ODD)
    assert not (ROOT / "owned").exists()


def test_one_team_s_tests_and_checks_make_its_environment_and_the_platform_s_alone() -> None:
    shows = "PYTHON=printf '<%s>'"
    assert make("needed", f"REPO={ODD}", shows) == f"<envs/build.py><sync><--><platform><{ODD}>"
    assert make("needed", shows) == "<envs/build.py><sync>"
    for target in ("check", "test"):
        assert "<envs/build.py><sync><--><platform><no>" in make(target, "REPO=no", shows)


def test_whose_shell_or_notebook_it_is_is_looked_at_before_its_environment_is_made() -> None:
    shows = "PYTHON=printf '<%s>'"
    for target in ("shell", "notebook"):
        assert make(target, "REPO=nosuch", shows, SHOWS) == f"<envs/build.py><sync><platform><{target}><--><nosuch>"


def test_a_misspelt_sources_file_is_told_before_the_environments_are_made() -> None:
    variables = os.environ | {"SEARCHLOOP_SOURCES": "no such.yaml"}
    command = ["make", "--no-print-directory", "up", "PYTHON=false"]
    done = subprocess.run(command, cwd=ROOT, env=variables, text=True, capture_output=True, check=False)
    assert done.returncode and done.stdout == ""
    assert done.stderr.startswith("SEARCHLOOP_SOURCES=no such.yaml: no such file. Expected a YAML file of sources")


def test_a_setting_is_taken_as_it_was_typed() -> None:
    shows = """STACK=bash -c 'printf "<%s>" "$SEARCHLOOP_HOME"'"""
    assert make("status", "SEARCHLOOP_HOME=/tmp/a$b", shows) == "</tmp/a$b>"


def test_a_part_of_the_repositories_is_started_with_their_environments_alone() -> None:
    shows = """STACK=bash -c 'printf "<%s>" "$SEARCHLOOP_REPOS"'"""
    for variable in ("REPOS", "SEARCHLOOP_REPOS"):
        said = make("up", f"{variable}=corpus keyword", "PYTHON=echo", shows)
        assert said == "envs/build.py sync platform search corpus keyword\n<corpus keyword>"
    assert make("up", "PYTHON=echo", shows) == "envs/build.py sync\n<>"


def test_an_empty_variable_is_none() -> None:
    assert make("train", "REPO=", SHOWS) == "<train>"


def test_up_goes_on_as_dev_where_it_is_told_to() -> None:
    assert make("up", "PYTHON=true", SHOWS) == "<up>"
    assert make("up", "WATCH=1", "PYTHON=true", SHOWS) == "<up><--watch>"
    assert make("dev", "PYTHON=true", SHOWS) == "<dev>"


def test_a_search_for_nothing_is_told_what_to_type() -> None:
    done = subprocess.run(["make", "search", "Q= "], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode and 'make search Q="sort an array"' in done.stdout + done.stderr


def test_a_variable_that_no_command_reads_is_refused() -> None:
    done = subprocess.run(["make", "help", "SESSION=5"], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode and "SESSION is read by no command: make help" in done.stderr


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("reproduce", "make reproduce RELEASE=<family>/<version>"),
        ("evaluate", "make evaluate OUT=runs"),
        ("code-server", "make code-server REPO="),
        ("shell", "make shell REPO="),
        ("pin", "make pin FAMILY="),
        ("explain", "make explain RELEASE=<family>/<version>"),
        ("promote", 'make promote WHY="<reason>"'),
    ],
)
def test_a_variable_that_is_missing_is_asked_for(target: str, said: str) -> None:
    done = subprocess.run(["make", target], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode and said in done.stderr and "bash" not in done.stderr


def test_every_variable_that_the_help_names_is_read() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    names = set(re.findall(r"\b([A-Z]+)=", told)) - {"PYTHON"}
    assert {"DRILLS", "UPGRADE", "REPO", "Q"} <= names
    given = [f"{name}=x" for name in names]
    assert subprocess.run(["make", "-n", "help", *given], cwd=ROOT, check=False).returncode == 0

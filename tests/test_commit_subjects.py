"""The check of commit subjects, on messages and on a real repository."""

import subprocess
from pathlib import Path

import pytest

from scripts.commit_subjects import LATEST, LONGEST, faults, main, subject_of


@pytest.mark.parametrize(
    "subject",
    [
        "feat: add a matrix of interpreters",
        "fix(gateway): share one JWKS fetch between concurrent requests",
        "refactor(gateway/access)!: rename the policy store",
        "docs: " + "x" * (LONGEST - 6),
    ],
)
def test_a_conventional_subject_is_accepted(subject: str) -> None:
    assert faults(subject) == []


@pytest.mark.parametrize(
    ("subject", "part"),
    [
        ("Add a matrix of interpreters", "not a Conventional Commit"),
        ("feature: add a matrix", "not a Conventional Commit"),
        ("fix(Gateway): share one fetch", "not a Conventional Commit"),
        ("fix:share one fetch", "not a Conventional Commit"),
        ("fix: ", "not a Conventional Commit"),
        ("docs: " + "x" * (LONGEST - 5), f"it has {LONGEST + 1} characters"),
    ],
)
def test_a_wrong_subject_is_rejected_with_the_reason(subject: str, part: str) -> None:
    (fault,) = faults(subject)
    assert part in fault


def test_a_subject_is_the_first_line_that_is_no_comment() -> None:
    assert (
        subject_of("# Please enter the message\n\nfix: share one fetch\n\nThe reason.\n")
        == "fix: share one fetch"
    )
    assert subject_of("# Please enter the message\n") == ""


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("fix: share one fetch\n\nThe reason.\n", 0),
        ("fixup! Share one fetch\n", 0),
        ("Merge branch 'main' into habits\n", 0),
        ("Share one fetch\n", 1),
    ],
)
def test_the_hook_checks_the_message_of_a_file(tmp_path: Path, message: str, status: int) -> None:
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(message)
    assert main(["--message", str(file)]) == status


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty repository and change into it."""
    monkeypatch.chdir(tmp_path)
    for variable, value in {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }.items():
        monkeypatch.setenv(variable, value)
    for variable in (
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_WORK_TREE",
    ):  # set where git runs the tests from a hook
        monkeypatch.delenv(variable, raising=False)
    git("init", "--quiet", "--initial-branch", "main")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.org")
    return tmp_path


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


def commit(subject: str) -> None:
    git("commit", "--quiet", "--allow-empty", "--message", subject)


@pytest.mark.usefixtures("repository")
def test_the_commits_since_a_base_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    commit("Begin")
    git("tag", "begin")
    commit("feat: add a file")
    assert main(["begin"]) == 0
    commit("Remove the file")
    assert main(["begin"]) == 1
    assert '"Remove the file": it is not a Conventional Commit' in capsys.readouterr().err


@pytest.mark.usefixtures("repository")
def test_without_a_base_the_latest_commits_are_checked() -> None:
    commit("Begin")
    assert main([]) == 1
    for number in range(LATEST):
        commit(f"feat: add file {number}")
    assert main([]) == 0


@pytest.mark.usefixtures("repository")
def test_a_merge_is_not_checked() -> None:
    commit("feat: add a file")
    git("switch", "--quiet", "--create", "side")
    commit("fix: change the file")
    git("switch", "--quiet", "main")
    commit("docs: describe the file")
    git("merge", "--quiet", "--no-ff", "--message", "Side into main", "side")
    assert main([]) == 0


@pytest.mark.usefixtures("repository")
def test_an_unknown_base_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    commit("feat: add a file")
    assert main(["no-such-commit"]) == 2
    assert "the commits cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("base", [None, ""])
@pytest.mark.usefixtures("repository")
def test_an_empty_base_is_no_base(base: str | None) -> None:
    commit("feat: add a file")
    assert main([] if base is None else [base]) == 0

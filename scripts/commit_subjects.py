"""Check that the subjects of commits are Conventional Commits of at most 72 characters.

Called by ``make lint`` for the latest commits and by the commit-msg hook for the message that is
about to be committed.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

TYPES = (
    "build",
    "chore",
    "ci",
    "docs",
    "feat",
    "fix",
    "perf",
    "refactor",
    "revert",
    "style",
    "test",
)
LONGEST = 72
LATEST = 20
"""How many commits are checked when no base is given."""

_SUBJECT = re.compile(rf"(?:{'|'.join(TYPES)})(?:\([a-z0-9./-]+\))?!?: \S.*")
_BY_GIT = re.compile(r"(?:fixup|squash|amend)! |Merge ")


def faults(subject: str) -> list[str]:
    """Return what is wrong with a commit's subject; empty when it is right."""
    found = []
    if not _SUBJECT.fullmatch(subject):
        types = ", ".join(TYPES)
        found.append(
            "it is not a Conventional Commit: write TYPE(SCOPE): DESCRIPTION or TYPE: "
            f"DESCRIPTION; types are {types}"
        )
    if len(subject) > LONGEST:
        found.append(
            f"it has {len(subject)} characters, and the limit is {LONGEST}: move the details "
            "to the body"
        )
    return found


def subject_of(message: str) -> str:
    """Return the first line of a commit message that is neither empty nor a comment; empty when
    there is none.
    """
    lines = (line.strip() for line in message.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")


def commits(base: str | None) -> list[tuple[str, str]]:
    """Return the abbreviated id and the subject of the commits since ``base``, or of the latest
    ones; merges are left out.

    Raises subprocess.CalledProcessError where there is no repository or ``base`` is not in it.
    """
    chosen = [f"{base}..HEAD"] if base else [f"--max-count={LATEST}", "HEAD"]
    command = ["git", "log", "--no-merges", "--format=%h%x00%s", *chosen, "--"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [
        (commit, subject)
        for commit, _, subject in (line.partition("\0") for line in log.splitlines())
    ]


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 when a subject is wrong, 2 when the commits cannot be read."""
    parser = argparse.ArgumentParser(prog="commit_subjects", description=__doc__)
    parser.add_argument(
        "base", nargs="?", help=f"check the commits since this one; without it the latest {LATEST}"
    )
    parser.add_argument(
        "--message", type=Path, metavar="FILE", help="check the message in this file instead"
    )
    options = parser.parse_args(arguments)
    if options.message:
        subject = subject_of(options.message.read_text())
        # git writes these itself. It aborts on an empty message, and a later rebase removes fixup!
        # and squash!.
        subjects = [] if not subject or _BY_GIT.match(subject) else [("message", subject)]
    else:
        try:
            subjects = commits(options.base or None)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"the commits cannot be read: {error.stderr.strip()}\n")
            return 2
    wrong = [
        f'{where} "{subject}": {fault}\n'
        for where, subject in subjects
        for fault in faults(subject)
    ]
    sys.stderr.writelines(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Revision of the code that fitted a model."""

import subprocess
from pathlib import Path


def git_revision(folder: Path) -> str:
    """Return the output of ``git describe --dirty`` in the folder; "unknown" without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()

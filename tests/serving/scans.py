"""``python -m tests.serving.scans FOLDER DIGEST``: write an artifact with an image input.

Tests of the other environment run it.
"""

import sys
from pathlib import Path

from tests.serving.artifacts import fit_scans, write_artifact, write_model_settings

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_artifact(folder, fit_scans())
    write_model_settings(folder, digest=sys.argv[2])

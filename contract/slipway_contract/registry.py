"""Conventions of the model registry: aliases, tags, artifact manifest and digest, storage URIs."""

import hashlib
import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

CHAMPION = "champion"

MANIFEST_FILE = "manifest.json"
PACKAGE_SIGNATURE_FILE = "manifest.sig"
"""Signature of the manifest, and so of all files that it lists; the manifest does not list it.

Its format is that of OpenSSF model signing for a directory with the one file
``NAME/manifest.json``: the signature of one registered model is invalid for another.
"""
SIGNATURE_FILE = "signature.json"
EXAMPLE_FILE = "input_example.json"
"""A valid V2 request body for the version; the controller's smoke prediction sends it."""
CARD_FILE = "model_card.md"
EVALUATION_FILE = "evaluation.json"
"""Scores, baselines and confusion matrices of the held-out rows, as the training found them."""
CARD = "card"
"""Parameter of the V2 metadata: the model card, Markdown."""
REFERENCE_FILE = "reference.json"
"""Distribution of the training inputs, the reference of the drift monitor."""


class Tag(StrEnum):
    """Keys of the tags that training writes on a registered version."""

    DIGEST = "slipway.digest"
    DATASET = "slipway.dataset.name"
    DATASET_DIGEST = "slipway.dataset.digest"
    DATASET_LICENCE = "slipway.dataset.licence"
    DATASET_SOURCE = "slipway.dataset.source"
    DATASET_SOURCE_KIND = "slipway.dataset.source.kind"
    """Kind of the data's source: a mirror, the public source, a package, a generator."""
    EVALUATION_DIGEST = "slipway.evaluation.digest"
    """Digest of the stored table on which the version was scored when it was logged."""
    GIT_REVISION = "slipway.git.revision"
    IMAGE = "slipway.image"
    FORMAT = "slipway.format"
    SWEEP = "slipway.sweep"
    """The sweep whose best parameters the training used."""
    SIGNER = "slipway.signer"
    """SHA-256 of the public key (PEM) that verifies the artifact's signature."""
    ARTIFACT = "slipway.artifact"
    """``models:/m-…``: the logged model that an adopted version serves in place of its own.
    """


PROMOTION = "slipway.promotion."
"""Prefix of the tag that a promotion writes on a version, followed by the time.

The value is JSON: ``alias``, user, reason, previous version and result of the gate.
"""


class ArtifactFormat(StrEnum):
    """Storage format of a model.

    JOBLIB is pickle: loading it can run any code, so a Model must allow it explicitly. RULES is
    JSON, a ``RuleSet``: the data of rules whose code is a package that the server has installed.
    """

    ONNX = "onnx"
    SKOPS = "skops"
    RULES = "rules"
    JOBLIB = "joblib"

    @property
    def file(self) -> str:
        """Name of the model file in the artifact."""
        return f"model.{self.value}"


SAFE_FORMATS = frozenset({ArtifactFormat.ONNX, ArtifactFormat.SKOPS, ArtifactFormat.RULES})
PICKLE_SUFFIXES = frozenset(
    {".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".npy"}
)
"""Files that are, or may hold, a pickle."""
SKOPS_TRUSTED = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)
"""Types that skops may load in addition to its own list of public scikit-learn classes.

The list is fixed in code: data containers only, nothing that takes a function or a name to import.
"""

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,252}$")
"""Names of registered models that can be served.

MLflow allows no dots in the name of a logged model, which every version is.
"""
NAME_RULE = "use 1 to 253 letters, digits, hyphens and underscores, the first a letter or digit"
_HEX = re.compile(r"^[0-9a-f]{64}$")


def digest_of(content: bytes) -> str:
    """Return ``sha256:<hex>`` of the bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class ManifestEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern=_HEX.pattern)

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        path = PurePosixPath(self.path)
        if (
            path.is_absolute()
            or not path.parts
            or ".." in path.parts
            or "\\" in self.path
            or str(path) != self.path
        ):
            raise ValueError(f"{self.path!r} is not a plain relative path")
        return self


class ArtifactManifest(BaseModel):
    """Complete list of an artifact's files; its digest therefore identifies the whole artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(default=1, ge=1, le=1)
    format: ArtifactFormat
    files: tuple[ManifestEntry, ...]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        paths = [entry.path for entry in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file is listed twice")
        if {MANIFEST_FILE, PACKAGE_SIGNATURE_FILE} & set(paths):
            raise ValueError(f"{MANIFEST_FILE} and {PACKAGE_SIGNATURE_FILE} cannot be listed")
        if self.format.file not in paths:
            raise ValueError(f"{self.format.file} is not listed")
        return self

    def content(self) -> bytes:
        """Return the canonical bytes: files sorted by path, no white space."""
        ordered = self.model_copy(
            update={"files": tuple(sorted(self.files, key=lambda entry: entry.path))}
        )
        return ordered.model_dump_json().encode()

    @property
    def digest(self) -> str:
        """Digest of the artifact, ``sha256:<hex>`` of ``content()``."""
        return digest_of(self.content())


class StorageUri(BaseModel):
    """A version, pinned by digest: ``mlflow://NAME/VERSION?sha256=HEX``.

    ``&allow=joblib`` permits a pickle; ``&implementation=none`` leaves the class that loads the
    files to the runtime.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME.pattern)
    version: str = Field(pattern=r"^[1-9][0-9]{0,8}$")
    sha256: str = Field(pattern=_HEX.pattern)
    allow: frozenset[ArtifactFormat] = SAFE_FORMATS
    implementation: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parsed URI; raise ValueError with a one-line problem."""
        parts = urlsplit(text)
        if parts.scheme != "mlflow":
            raise ValueError(f"storage URI {text!r} does not start with mlflow://")
        query = parse_qs(parts.query, keep_blank_values=True)
        if unknown := query.keys() - {"sha256", "allow", "implementation"}:
            raise ValueError(f"storage URI has unknown parameters: {', '.join(sorted(unknown))}")
        if len(query.get("sha256", [])) != 1 or not _HEX.match(query["sha256"][0]):
            raise ValueError(
                "storage URI must pin the artifact: ?sha256= and 64 hexadecimal digits"
            )
        implementation = query.get("implementation", [])
        if implementation not in ([], ["none"]):
            raise ValueError("implementation= takes none")
        name, version = unquote(parts.netloc), parts.path.removeprefix("/")
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a registered model's name")
        if not re.match(r"^[1-9][0-9]{0,8}$", version):
            raise ValueError(f"{version!r} is not a version number")
        try:
            extra = frozenset(ArtifactFormat(value) for value in query.get("allow", []))
        except ValueError:
            raise ValueError(f"allow= takes {', '.join(ArtifactFormat)}") from None
        return cls(
            name=name,
            version=version,
            sha256=query["sha256"][0],
            allow=SAFE_FORMATS | extra,
            implementation=not implementation,
        )

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"

    def __str__(self) -> str:
        extra = "".join(f"&allow={value}" for value in sorted(self.allow - SAFE_FORMATS))
        extra += "" if self.implementation else "&implementation=none"
        return f"mlflow://{quote(self.name)}/{self.version}?sha256={self.sha256}{extra}"

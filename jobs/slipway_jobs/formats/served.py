"""A model file in its served format, with inference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from numpy.typing import NDArray
from slipway.errors import NoSuchVersion
from slipway.packaging.inference import run_onnx
from slipway.packaging.onnx_graph import Graph
from slipway_contract.registry import ArtifactFormat
from slipway_contract.rules import RuleSet, load_rules

Exported = Graph | RuleSet
"""The exported form of a fitted estimator."""


@dataclass(frozen=True)
class Served:
    """The model file of an artifact."""

    format: ArtifactFormat
    content: bytes

    @classmethod
    def of(cls, exported: Exported) -> Self:
        if isinstance(exported, RuleSet):
            return cls(ArtifactFormat.RULES, exported.model_dump_json().encode())
        return cls(ArtifactFormat.ONNX, exported.SerializeToString())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return its outputs by name.

        Raises NoSuchVersion for a format without inference here, and for rules that are not
        installed.
        """
        if self.format is ArtifactFormat.ONNX:
            return run_onnx(self.content, feeds)
        if self.format is ArtifactFormat.RULES:
            try:
                rules = load_rules(self.content)
            except ValueError as error:
                raise NoSuchVersion(f"{self.format.file}: {error}") from error
            return rules.run(feeds)
        raise NoSuchVersion(
            f"stored as {self.format}; only {ArtifactFormat.ONNX} and {ArtifactFormat.RULES} "
            "are evaluated here"
        )

"""Rule-based models: their data is an artifact, their code is an installed package.

A package declares its rules in the entry-point group ``slipway.rules``, under the name that the
file of the data has. The entry point is a function that reads such a file and returns ``Rules``.
Predictors and Jobs run the rules that are installed beside them.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from slipway_contract.signature import Signature

GROUP = "slipway.rules"


class RuleSet(BaseModel):
    """Head of a ``model.rules`` file. The package of the rules has the data in a subclass."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    rules: str = Field(description="name of the rules: their entry point in slipway.rules")
    version: str = Field(
        description=(
            "version of the package that has the rules; others may score the same data differently"
        )
    )


class Rules(Protocol):
    """Rules with the data of one artifact."""

    def check(self, signature: Signature) -> None:
        """Raise ValueError with the reason when the rules do not match the signature."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all outputs by name, arrays [rows, ...], for input arrays [rows, ...] by name."""


def load_rules(content: bytes) -> Rules:
    """Return the rules of a ``model.rules`` file.

    Raises ValueError: for invalid data, for rules that are not installed, and for rules of another
    version.
    """
    name = RuleSet.model_validate_json(content).rules
    found = tuple(entry_points(group=GROUP, name=name))
    if len(found) != 1:
        installed = ", ".join(sorted({each.name for each in entry_points(group=GROUP)})) or "none"
        raise ValueError(
            f"the rules {name!r} are declared by {len(found)} installed packages, not by one "
            f"(installed rules: {installed}); use an image with the package that declares them in "
            f"the entry-point group {GROUP}"
        )
    try:
        load = found[0].load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the rules {name!r} cannot be imported: {error}") from error
    rules: Rules = load(content)
    return rules

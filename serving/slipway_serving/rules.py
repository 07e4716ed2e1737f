"""Rules of an installed package behind a model signature."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from slipway_contract.rules import load_rules
from slipway_contract.signature import Signature

from slipway_serving.errors import Refused, first_finding
from slipway_serving.predictor import Array


class RulePredictor:
    """The rules that an artifact names, with its data."""

    def __init__(self, path: Path, signature: Signature) -> None:
        """Load the rules and compare them with the signature. Raises Refused."""
        try:
            self._rules = load_rules(path.read_bytes())
            self._rules.check(signature)
        except ValidationError as error:
            raise Refused(f"{path.name} is not a rule set: {first_finding(error)}") from error
        except ValueError as error:
            raise Refused(f"{path.name}: {error}") from error

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Return the named outputs, [rows, ...], for the inputs [rows, ...] by name."""
        given = self._rules.run(inputs)
        return {name: given[name] for name in outputs}

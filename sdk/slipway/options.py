"""Options of the command lines."""

from collections.abc import Iterable

from slipway.errors import WrongParameter


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Parse ``KEY=VALUE`` texts. Raises WrongParameter."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise WrongParameter(
                f"--set {text!r}: has no KEY=VALUE form; write for example --set C=0.1"
            )
        if key in found:
            raise WrongParameter(f"--set {key}: is given twice; give it once")
        found[key] = value
    return found

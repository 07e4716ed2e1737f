"""Options of the command lines."""

from collections.abc import Iterable

from slipway.errors import WrongParameter


def pairs(texts: Iterable[str], option: str = "--set") -> dict[str, str]:
    """Parse ``KEY=VALUE`` texts of an option. Raises WrongParameter."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise WrongParameter(
                f"{option} {text!r}: has no KEY=VALUE form; write for example {option} C=0.1"
            )
        if key in found:
            raise WrongParameter(f"{option} {key}: is given twice; give it once")
        found[key] = value
    return found

"""Tested servers and their known differences from the checks.

A test fails when a difference no longer exists.
"""

from pytest import MarkDecorator, mark, param  # noqa: PT013

from tests.conformance.checks import CHECKS

GATEWAY, RUNTIME, STOCK = "gateway", "our runtime", "MLServer 1.7.1"

_ENDS_AT_THE_GATEWAY = "415; the gateway handles it"
_NAMED = "422 that names the parameter; the gateway handles it"
_NOT_READ = "no binary tensors"
_MODEL = "200; left to the model"
_PACKED = "a long response is compressed by {} if accepted"

DIFFERENCES: dict[str, dict[str, str]] = {
    GATEWAY: {},
    RUNTIME: {
        "a request may be compressed by gzip": _ENDS_AT_THE_GATEWAY,
        "a request may be compressed by deflate": _ENDS_AT_THE_GATEWAY,
        _PACKED.format("gzip"): "not compressed",
        _PACKED.format("deflate"): "not compressed",
        "invalid gzip is 400": "415",
        "64 MiB from 64 KiB of gzip is 413": "415",
        "the binary tensor extension is announced": _NOT_READ,
        "binary inputs of every datatype are accepted": _ENDS_AT_THE_GATEWAY,
        "binary and JSON inputs may be mixed": _ENDS_AT_THE_GATEWAY,
        "all outputs are binary on request": _NAMED,
        "single outputs are binary on request": _NAMED,
        "binary inputs may be compressed": _ENDS_AT_THE_GATEWAY,
        "binary data that does not match the JSON is 400 or 422": "415",
    },
    STOCK: {
        "an unknown path is 404": "404, with another body",
        "an unsupported method is 405, with Allow": "405, with another body",
        "a body that is not JSON is 400": "422, with another body",
        "a body of another structure is 400": "422, with another body",
        "an unknown datatype is 400": "422, with another body",
        "data that does not fit its shape is 400 or 422": _MODEL,
        "values that do not fit their datatype are 400 or 422": _MODEL,
        "an input that is missing or unknown is 400 or 422": _MODEL,
        "an unsupported content type is 415": "422, with another body",
        "an unsupported content encoding is 415": "200; the header is ignored",
        "a request may be compressed by deflate": "422",
        _PACKED.format("deflate"): "not compressed",
        "invalid gzip is 400": "500",
        "64 MiB from 64 KiB of gzip is 413": "no limit",
        "the binary tensor extension is announced": _NOT_READ,
        "binary inputs of every datatype are accepted": "500",
        "binary and JSON inputs may be mixed": "500",
        "all outputs are binary on request": "JSON",
        "single outputs are binary on request": "JSON",
        "binary inputs may be compressed": "422",
        "binary data that does not match the JSON is 400 or 422": "500",
    },
}


def cases(server: str) -> list[object]:
    """Return all checks for a parametrised test; known differences are strict expected failures."""
    known = DIFFERENCES[server]
    assert not known.keys() - CHECKS.keys()

    def marks(sentence: str) -> tuple[MarkDecorator, ...]:
        return (mark.xfail(strict=True, reason=known[sentence]),) if sentence in known else ()

    return [param(check, id=sentence, marks=marks(sentence)) for sentence, check in CHECKS.items()]


def table() -> str:
    """Return the table of the page."""
    lines = ["| check | " + " | ".join(DIFFERENCES) + " |", "|---|" + "---|" * len(DIFFERENCES)]
    for sentence in CHECKS:
        cells = [
            f"**no**: {known[sentence]}" if sentence in known else "yes"
            for known in DIFFERENCES.values()
        ]
        lines.append(f"| {sentence} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"

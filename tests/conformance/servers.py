"""Which servers were looked at, and what each does in place of what a check says. A test fails when
this is not true any more.
"""

from pytest import MarkDecorator, mark, param  # noqa: PT013

from tests.conformance.checks import CHECKS

GATEWAY, RUNTIME, STOCK = "gateway", "our runtime", "MLServer 1.7.1"

_ENDS_AT_THE_GATEWAY = "415; it ends at the gateway"
_NAMED = "422 that names the parameter; it ends at the gateway"
_NOT_READ = "it knows no binary tensors"
_MODEL = "200; left to the model"
_PACKED = "a long answer is packed by {} for who takes it"

DIFFERENCES: dict[str, dict[str, str]] = {
    GATEWAY: {},
    RUNTIME: {
        "a request may be packed by gzip": _ENDS_AT_THE_GATEWAY,
        "a request may be packed by deflate": _ENDS_AT_THE_GATEWAY,
        _PACKED.format("gzip"): "it leaves as it is",
        _PACKED.format("deflate"): "it leaves as it is",
        "what is not gzip, though it says so, is 400": "415",
        "64 MiB out of 64 KiB of gzip is 413": "415",
        "the binary tensor extension is announced": _NOT_READ,
        "binary inputs are read, of every datatype": _ENDS_AT_THE_GATEWAY,
        "binary and JSON inputs may stand side by side": _ENDS_AT_THE_GATEWAY,
        "outputs are binary when the request asks for it": _NAMED,
        "one output is binary when it is asked for so": _NAMED,
        "binary inputs may be packed": _ENDS_AT_THE_GATEWAY,
        "binary data that does not fit what the JSON says is 400 or 422": "415",
    },
    STOCK: {
        "an unknown path is 404": "404, with a body of another form",
        "a method that a path does not have is 405, with Allow": "405, with a body of another form",
        "a body that is no JSON is 400": "422, with a body of another form",
        "a body of another structure is 400": "422, with a body of another form",
        "a datatype that there is not is 400": "422, with a body of another form",
        "data that does not fit its shape is 400 or 422": _MODEL,
        "values that do not fit their datatype are 400 or 422": _MODEL,
        "an input that is missing or unknown is 400 or 422": _MODEL,
        "a type that is not read is 415": "422, with a body of another form",
        "a coding that is not read is 415": "200; the header is not looked at",
        "a request may be packed by deflate": "422",
        _PACKED.format("deflate"): "it leaves as it is",
        "what is not gzip, though it says so, is 400": "500",
        "64 MiB out of 64 KiB of gzip is 413": "unpacked without a bound",
        "the binary tensor extension is announced": _NOT_READ,
        "binary inputs are read, of every datatype": "500",
        "binary and JSON inputs may stand side by side": "500",
        "outputs are binary when the request asks for it": "they are JSON",
        "one output is binary when it is asked for so": "it is JSON",
        "binary inputs may be packed": "422",
        "binary data that does not fit what the JSON says is 400 or 422": "500",
    },
}


def cases(server: str) -> list[object]:
    """All checks for a parametrised test; those that the server is known to fail must fail."""
    known = DIFFERENCES[server]
    assert not known.keys() - CHECKS.keys()

    def marks(sentence: str) -> tuple[MarkDecorator, ...]:
        return (mark.xfail(strict=True, reason=known[sentence]),) if sentence in known else ()

    return [param(check, id=sentence, marks=marks(sentence)) for sentence, check in CHECKS.items()]


def table() -> str:
    """The page's table."""
    lines = ["| check | " + " | ".join(DIFFERENCES) + " |", "|---|" + "---|" * len(DIFFERENCES)]
    for sentence in CHECKS:
        cells = [
            f"**no**: {known[sentence]}" if sentence in known else "yes"
            for known in DIFFERENCES.values()
        ]
        lines.append(f"| {sentence} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"

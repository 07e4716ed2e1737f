"""Check that code, docs and charts use the words of docs/glossary.md.

Called by ``make lint``. It rejects the words that the field does not use, each with the field's
word, and function docstrings that do not begin with a verb. A word is searched in identifiers, too:
``KindRing`` and ``kind_ring`` contain ``ring``.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

OLD = {
    "ring": "stack, platform or model lifecycle",
    "door": "middleware, client or adapter",
    "anew": "again",
    "begun": "started",
    "whence": "source",
    "told": "sent, given or expected",
    "tells": "returns or describes",
    "said": "response, body or message",
    "says": "returns or describes",
    "unsaid": "missing",
    "hears": "receives",
    "speaks": "supports",
    "hopeless": "permanent",
    "album": "image store",
    "heir": "successor",
    "farewell": "finalize",
    "humblest": "least-privileged",
    "vanished": "deprovisioned",
    "vanish": "deprovision",
    "departed": "erased or deprovisioned",
    "choir": "group",
    "leash": "parent-death signal",
    "stranger": "unauthenticated caller",
    "for ever": "until it is cancelled",
    "last words": "last log line",
    "journal": "event sink",
    "wish": "request or options",
    "whoever": "the caller that",
    "visitor": "client",
    "house": "environment",
    "trouble": "failure or diagnosis",
    "verdict": "result, decision or readiness",
    "foreign": "imported, another",
    "seal": "package signature",
    "greets": "optional authentication",
    "kept answers": "response cache",
    "nobody": "no caller",
    "somebody": "a caller",
    "picture": "image",
}
"""What is rejected, and what to write instead."""

ALLOWED = (
    ("docs/glossary.md", "*"),  # lists them
    ("CHANGELOG.md", "picture"),  # names of earlier releases
    ("scripts/old_words.py", "*"),
    ("tests/test_old_words.py", "*"),
    ("tests/gateway/test_subjects.py", "vanish"),  # a migration replaces them
    ("tests/gateway/test_subjects.py", "departed"),
    ("gateway/slipway_gateway/identity/subjects.py", "departed"),
    ("*/migrations/versions/*", "*"),  # history: they ran in databases
)
"""Files, and the words that they may have."""

PHRASES = re.compile(
    r"foreign[ _-]?keys?|troubleshooting|journal_mode|PGUSER, value: nobody", re.IGNORECASE
)
"""Terms of the field that contain an old word."""

SUFFIXES = {".py", ".md", ".yaml", ".yml", ".tpl", ".txt", ".sh", ".toml", ".mk", ".in", ".css"}
NAMES = {"Makefile", "Dockerfile", "run"}
SKIPPED = ("requirements/", "serving/requirements.txt", "tests/testdata/")

_NO_VERBS = """
a all an and any are as at both by each every everything for from how if in is it its no none nobody
not of once one only or raises so some that the their there this those to until what whatever when
where whether which who whose why with without
"""
NO_VERBS = frozenset(_NO_VERBS.split())
"""Words that no imperative sentence begins with."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OLD = re.compile(
    rf"(?<![a-z])({'|'.join(OLD)})(?:s|es|ed)?(?![a-z])".replace(" ", r"[ _-]"), re.IGNORECASE
)


def findings(name: str, text: str) -> Iterator[str]:
    """Yield what is wrong with a file: ``line: problem; remedy``."""
    allowed = {word for pattern, word in ALLOWED if fnmatch(name, pattern)}
    if "*" not in allowed:
        for number, line in enumerate(text.splitlines(), 1):
            for found in _OLD.finditer(_CAMEL.sub("_", PHRASES.sub("", line))):
                word = re.sub(r"[_-]", " ", found.group(1).lower())
                if word not in allowed:
                    yield f"{number}: {found.group(0)!r} is an old word; write {OLD[word]}"
    if name.endswith(".py"):
        yield from _docstrings(text)


def _docstrings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        decorators = " ".join(map(ast.unparse, node.decorator_list))
        described = ast.get_docstring(node)
        if described and "property" not in decorators and "fixture" not in decorators:
            first = described.split()[0].strip(".,:;").lower()
            if first in NO_VERBS:
                yield (
                    f"{node.lineno}: the docstring of {node.name} begins with {first!r}; "
                    "begin with a verb, such as Return"
                )


def main() -> int:
    """Return the exit status: 1 when a tracked file has findings."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    failed = 0
    for name in filter(None, listed.stdout.split("\0")):
        path = Path(name)
        if name.startswith(SKIPPED) or not (path.suffix in SUFFIXES or path.name in NAMES):
            continue
        if path.is_file() and not path.is_symlink():
            for finding in findings(name, path.read_text()):
                sys.stderr.write(f"{name}:{finding}\n")
                failed += 1
    if failed:
        sys.stderr.write(f"{failed} findings; docs/glossary.md has the words of the field\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

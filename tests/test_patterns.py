"""No regular expression has super-polynomial run time (ReDoS, CWE-1333).

A pattern must not have an unlimited repetition inside another one: it can match in exponentially
many ways.
"""

import ast
import math
import re._constants as constants  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway_gateway.access.grants import Grant
from slipway_gateway.limits.policy import Policy

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "contract",
    "cluster",
    "sdk",
    "jobs",
    "serving",
    "controller",
    "gateway",
    "identity",
    "local",
    "examples/*",
)
FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "findall", "finditer", "split"}
REPEATS = {constants.MAX_REPEAT, constants.MIN_REPEAT}


def patterns() -> Iterator[tuple[str, str]]:
    """Yield place and text of each constant pattern in the sources."""
    for package in PACKAGES:
        for path in sorted(ROOT.glob(f"{package}/slipway*/**/*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                for text in _patterns_of(node):
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", text


def _patterns_of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="re"), attr=name),
            args=[ast.Constant(value=value), *_],
        ):
            if name in FUNCTIONS and isinstance(value, (str, bytes)):
                yield value if isinstance(value, str) else value.decode()
        case ast.keyword(arg="pattern", value=ast.Constant(value=str(text))):
            yield text


def nests_repeats(parsed: Any, *, inside: bool = False) -> bool:
    """Return True when an unlimited repetition contains another one."""
    for operator, argument in parsed:
        endless = operator in REPEATS and argument[1] == constants.MAXREPEAT
        if endless and inside:
            return True
        for part in argument if isinstance(argument, (tuple, list)) else (argument,):
            for each in part if isinstance(part, list) else [part]:
                if isinstance(each, parser.SubPattern) and nests_repeats(
                    each, inside=inside or endless
                ):
                    return True
    return False


PATTERNS = list(patterns())


def test_patterns_are_found_in_sources() -> None:
    assert len(PATTERNS) > 20


@pytest.mark.parametrize(
    "dangerous", ["(a+)+$", "^(x*)*y", "([a-z]+[0-9]*)+!", "(a|b*)*", "(?:(?:a+)b?)+"]
)
def test_a_pattern_that_backtracks_exponentially_is_detected(dangerous: str) -> None:
    assert nests_repeats(parser.parse(dangerous))


@pytest.mark.parametrize(
    ("place", "text"), PATTERNS, ids=[f"{place} {text}" for place, text in PATTERNS]
)
def test_no_pattern_has_nested_unlimited_repetitions(place: str, text: str) -> None:
    assert not nests_repeats(parser.parse(text)), place


def test_a_glob_of_a_grant_does_not_backtrack_exponentially() -> None:
    grant = Grant("g", "user:ada", "*a" * 20 + "b", Policy(name="default"), math.inf)
    assert grant.pattern.match("a" * 400) is None  # ends: an exponential match would not

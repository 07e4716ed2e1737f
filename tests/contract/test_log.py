"""Log lines are JSON, whatever their content is."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slipway_contract.log import JsonLines, request_id, trace_id


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Output of a logger of this test."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("slipway.test")
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)


def line(stream: io.StringIO) -> dict[str, Any]:
    (only,) = stream.getvalue().splitlines()
    return dict(json.loads(only))


def test_a_line_has_the_ids_of_its_request_and_its_trace(stream: io.StringIO) -> None:
    request, trace = request_id.set("0199"), trace_id.set("4bf9")
    logging.getLogger("slipway.test").warning("%s is late", "heart")
    request_id.reset(request)
    trace_id.reset(trace)
    seen = line(stream)
    assert seen.pop("time").endswith("+00:00")
    assert seen == {
        "level": "warning", "logger": "slipway.test", "message": "heart is late",
        "requestId": "0199", "traceId": "4bf9",
    }  # fmt: skip


def test_outside_a_request_a_line_has_no_ids(stream: io.StringIO) -> None:
    logging.getLogger("slipway.test").warning("started")
    assert line(stream).keys() == {"time", "level", "logger", "message"}


def test_an_exception_stays_on_its_line(stream: io.StringIO) -> None:
    try:
        json.loads("two\nlines")
    except json.JSONDecodeError:
        logging.getLogger("slipway.test").exception("broke")
    assert line(stream)["exception"].endswith("(char 0)")


@given(st.text())
def test_no_text_can_forge_a_second_line(text: str) -> None:
    record = logging.LogRecord("slipway.test", logging.INFO, __file__, 1, "%s", (text,), None)
    formatted = JsonLines().format(record)
    assert "\n" not in formatted
    assert json.loads(formatted).get("message", "") == text

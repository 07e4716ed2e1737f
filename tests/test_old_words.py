"""The check of words finds what it is made for, and leaves the field's own terms alone."""

import pytest

from scripts.old_words import OLD, findings


@pytest.mark.parametrize("word", OLD)
def test_an_old_word_is_found_in_prose_and_in_identifiers(word: str) -> None:
    for text in (f"one {word} here", f"one_{word.replace(' ', '_')} = 1", f"# {word.upper()}"):
        assert [OLD[word] in each for each in findings("a.md", text)] == [True], text


def test_an_old_word_is_found_in_a_class_name() -> None:
    assert list(findings("a.md", "class KindRing:")) == [
        "1: 'Ring' is an old word; write stack, platform or model lifecycle"
    ]


@pytest.mark.parametrize(
    "text",
    ["a string", "ForeignKey", "a foreign key", "docs/troubleshooting", "monitoring", "essays"],
)
def test_words_that_only_contain_an_old_word_are_no_finding(text: str) -> None:
    assert list(findings("a.md", text)) == []


@pytest.mark.parametrize(
    ("docstring", "count"),
    [("Return the rows.", 0), ("The rows.", 1), ("Whether it is ready.", 1), ("Raises Late.", 1)],
)
def test_a_docstring_of_a_function_begins_with_a_verb(docstring: str, count: int) -> None:
    text = f'def rows():\n    """{docstring}"""\n'
    assert len(list(findings("a.py", text))) == count


def test_a_property_is_described_by_a_noun() -> None:
    assert not list(findings("a.py", '@property\ndef rows(self):\n    """The rows."""\n'))

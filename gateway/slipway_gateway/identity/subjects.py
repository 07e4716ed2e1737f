"""Subjects: names of callers that own something, typed, so that a person and a client of the same
name share nothing.

``user:ada`` is the person whose token has the ``sub`` ada, ``client:nightly`` the service account
nightly. Subjects stand in every table, answer, annotation and quota. Who has left is a pseudonym
without a type: ``departed-…``, see erasure.py.
"""

USER, CLIENT = "user:", "client:"
DEPARTED = "departed-"


def user(name: str) -> str:
    """Return the subject of a person."""
    return USER + name


def client(name: str) -> str:
    """Return the subject of a service account."""
    return CLIENT + name


def name_of(subject: str) -> str:
    """Return the name of a person or a service account without its type."""
    return subject.partition(":")[2]


def read(text: str) -> str:
    """Return the subject that a caller of the API names: a bare name is a person's."""
    return text if text.startswith((USER, CLIENT, DEPARTED)) else user(text)

"""Subjects: typed names of callers, which separate a user and a client of the same name.

``user:ada`` is the user whose token has the ``sub`` ada, ``client:nightly`` the service account
nightly. Tables, responses, annotations and quotas contain subjects. The subject of a deleted user
is replaced by a pseudonym without type, ``erased-…``, see erasure.py.
"""

USER, CLIENT = "user:", "client:"
ERASED = "erased-"
FORMER_ERASED = "departed-"
"""Prefix of the pseudonyms of earlier releases, which stay in stored rows."""


def user(name: str) -> str:
    """Return the subject of a user."""
    return USER + name


def client(name: str) -> str:
    """Return the subject of a service account."""
    return CLIENT + name


def name_of(subject: str) -> str:
    """Return the name of a user or service account without the type."""
    return subject.partition(":")[2]


def read(text: str) -> str:
    """Return the subject of an API parameter, in which a name without type is a user."""
    return text if text.startswith((USER, CLIENT, ERASED, FORMER_ERASED)) else user(text)

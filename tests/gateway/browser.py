"""A minimal browser for login pages: cookies, redirects and forms."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self
from urllib.parse import urljoin

import httpx

from tests.support.waiting import SECONDS


@dataclass
class Form:
    """A form of a page with the initial values of its fields."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._select: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(attributes.get("action", "")))
        if tag == "option" and self._select is not None:
            # The first option, unless one is selected.
            if "selected" in attributes or self._select not in self.forms[-1].fields:
                self.forms[-1].fields[self._select] = attributes.get("value", "")
            return
        if not self.forms or not (name := attributes.get("name")):
            return
        kind = attributes.get("type", "text")
        if tag == "button" or (tag == "input" and kind == "submit"):
            self.forms[-1].buttons.append((name, attributes.get("value", "")))
        elif (tag == "input" and kind not in ("file", "checkbox", "radio")) or (
            tag == "input" and "checked" in attributes
        ):
            self.forms[-1].fields[name] = attributes.get("value", "")
        elif tag == "textarea":
            self.forms[-1].fields[name] = ""
        elif tag == "select":
            self._select = None if "multiple" in attributes else name


class Browser:
    """A browser of one site; ``page`` is the last response.

    Redirects to other origins than ``home`` are not followed.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self._client = httpx.Client(timeout=SECONDS, trust_env=False)
        self.page: httpx.Response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def visit(self, url: str) -> httpx.Response:
        return self._follow(self._client.get(urljoin(self.home, url)))

    def submit(
        self,
        *,
        button: tuple[str, str] | None = None,
        forged: dict[str, str] | None = None,
        **typed: str,
    ) -> httpx.Response:
        """Send the form with all of these fields and the button; add the ``forged`` fields."""
        forms = _Forms(self.page.text).forms
        fitting = [
            form
            for form in forms
            if typed.keys() <= form.fields.keys() and (not button or button in form.buttons)
        ]
        assert fitting, f"no form with {list(typed)} and {button} at {self.page.url}: {forms}"
        form = fitting[0]
        content = {**form.fields, **typed, **(forged or {}), **(dict([button]) if button else {})}
        return self._follow(
            self._client.post(urljoin(str(self.page.url), form.action), data=content)
        )

    def _follow(self, response: httpx.Response) -> httpx.Response:
        while (request := response.next_request) and str(request.url).startswith(self.home):
            response = self._client.get(urljoin(str(response.url), response.headers["location"]))
        self.page = response
        assert response.status_code < 500, response.text
        return response

"""Hook of MkDocs that makes pages written for the repository readable as a site.

MkDocs calls ``on_page_markdown`` with the source of each page. Two things differ from a reader of
the repository's files:

- Links to files outside of ``docs/``: the site does not contain them. They lead to the repository
  where ``repo_url`` is set, and otherwise become text with the path as a tooltip. A file that does
  not exist is a warning, which ends a strict build.
- Info strings with a second word, such as ``text symptom``, by which tests find a block: a
  highlighter knows the first word only.
"""

import html
import logging
import re
from pathlib import Path
from typing import Any

log = logging.getLogger("mkdocs.hooks.links")

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]+)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"^```text (?:symptom|from (?P<program>\w+))$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the source of a page with links and fences that MkDocs renders."""
    folder = Path(page.file.abs_src_path).parent

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        path = (folder / target).resolve()
        if "://" in target or target.startswith(("/", "mailto:")) or path.is_relative_to(DOCS):
            return found[0]
        if not path.exists():
            log.warning("%s links to %s, which does not exist", page.file.src_path, target)
        name = str(path.relative_to(ROOT))
        if config.repo_url:
            url = f"{config.repo_url.rstrip('/')}/blob/main/{name}{found['anchor'] or ''}"
            return f"[{found['text']}]({url})"
        return f'<span title="{html.escape(name)}">{found["text"]}</span>'

    return FENCE.sub(
        lambda found: f'```text title="{found["program"]}"' if found["program"] else "```text",
        LINK.sub(link, markdown),
    )

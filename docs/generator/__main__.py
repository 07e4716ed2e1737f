"""Write the reference pages that differ from the code: ``python -m docs.generator``."""

import sys

from docs.generator.pages import pages


def main() -> None:
    """Write each page that is not up to date, and name it on stderr."""
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stderr.write(f"{path} was not up to date\n")


if __name__ == "__main__":
    main()

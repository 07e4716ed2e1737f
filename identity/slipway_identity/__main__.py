"""``python -m slipway_identity``: prepare the provider, then ``canaille run`` serves it."""

import logging
import sys

from pydantic import ValidationError

from slipway_identity.bootstrap import bootstrap
from slipway_identity.settings import IdentitySettings


def main() -> int:
    """Exit status 2 when a setting is missing or wrong."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        settings = IdentitySettings()
    except ValidationError as error:
        for finding in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in finding["loc"][:1]).upper()
            logging.error("set SLIPWAY_IDENTITY_%s: %s", name, finding["msg"])
        return 2
    bootstrap(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())

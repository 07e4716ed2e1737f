"""``python -m slipway_identity``: prepare the provider before hypercorn serves the application."""

import logging
import sys

from pydantic import ValidationError
from slipway_contract.errors import explain_settings

from slipway_identity.bootstrap import bootstrap
from slipway_identity.settings import IdentitySettings


def main() -> int:
    """Prepare the provider; return 2 for an invalid setting."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        settings = IdentitySettings()
    except ValidationError as error:
        sys.stderr.write(explain_settings(error, "SLIPWAY_IDENTITY_"))
        return 2
    bootstrap(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())

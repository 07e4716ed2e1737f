"""``python -m slipway_images``: log a version of the network."""

import argparse
import json

from slipway_images.model import log_images


def main() -> None:
    """Log a version and print it as JSON, for the Job that runs the program."""
    parser = argparse.ArgumentParser(prog="python -m slipway_images", description=__doc__)
    parser.add_argument("--name", default="images", help="registered model")
    given = parser.parse_args()
    version = log_images(given.name)
    result = {"model": given.name, "version": version.version, "digest": version.digest}
    print(json.dumps(result))  # noqa: T201  # the result of the Job


if __name__ == "__main__":
    main()

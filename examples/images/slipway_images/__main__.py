"""``python -m slipway_images``: log a version, and serve it if none is served."""

import argparse
import json

import mlflow

from slipway_images.model import log_images


def main() -> None:
    """Log a version; move the alias to it, unless it points to another one.

    The gate cannot compare versions of this example: photographs with labels are not part of it.
    """
    parser = argparse.ArgumentParser(prog="python -m slipway_images", description=__doc__)
    parser.add_argument("--name", default="images", help="registered model")
    parser.add_argument("--alias", default="champion", help="alias of the version that is served")
    given = parser.parse_args()
    version = log_images(given.name)
    client = mlflow.MlflowClient()
    if given.alias not in client.get_registered_model(given.name).aliases:
        client.set_registered_model_alias(given.name, given.alias, version.version)
    result = {"model": given.name, "version": version.version, "digest": version.digest}
    print(json.dumps(result))  # noqa: T201  # the result of the Job


if __name__ == "__main__":
    main()

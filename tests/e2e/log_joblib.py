"""Store a pickled estimator as a signed version, as an author of a runtime can.

Arguments: a tracking server, and the file of the key that signs versions.
"""

import io
import sys
from pathlib import Path

import joblib  # type: ignore[import-untyped]
import mlflow
import numpy as np
from sklearn.linear_model import LinearRegression
from slipway.registry.storing import store_version
from slipway.registry.tracking import connect
from slipway_contract.registry import SIGNATURE_FILE, ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

NAME = "pickled"
mlflow.set_tracking_uri(sys.argv[1])
tracking = connect()
rows = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
estimator = LinearRegression().fit(rows, rows @ np.array([2.0, 3.0]))
pickled = io.BytesIO()
joblib.dump(estimator, pickled)
signature = Signature(
    inputs=(Column(name="x", datatype=Datatype.FP32, shape=(2,)),),
    outputs=(Column(name="predict", datatype=Datatype.FP64),),
)
form = ArtifactFormat.JOBLIB
files = {form.file: pickled.getvalue(), SIGNATURE_FILE: signature.model_dump_json().encode()}
with tracking.run("by-hand", NAME, {}) as run:
    version = store_version(
        tracking, run, NAME, files, form, {}, "for the test of MLServer", Path(sys.argv[2])
    )
tracking.point(NAME, "champion", version)

"""Fit, convert, log and register a model without Slipway. Argument: a tracking server."""

import sys

import mlflow
import numpy as np
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("by-hand")
rows = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
estimator = LinearRegression().fit(rows, rows @ np.array([2.0, 3.0]))
with mlflow.start_run():
    logged = mlflow.onnx.log_model(
        to_onnx(estimator, rows[:1]), name="model", registered_model_name="by-hand"
    )
mlflow.MlflowClient().set_registered_model_alias(
    "by-hand", "champion", logged.registered_model_version
)

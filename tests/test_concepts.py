"""A reader finds the module of a concept by the word of the field (docs/glossary.md)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONCEPTS = [
    ("rate limit", "gateway/slipway_gateway/limits/rates.py"),
    ("quota lease", "gateway/slipway_gateway/limits/ledger.py"),
    ("admission queue", "gateway/slipway_gateway/inference/admission_queue.py"),
    ("response cache", "gateway/slipway_gateway/inference/response_cache.py"),
    ("async predictions", "gateway/slipway_gateway/edge/async_predictions.py"),
    ("task executor", "gateway/slipway_gateway/edge/task_executor.py"),
    ("authenticator", "gateway/slipway_gateway/edge/authenticator.py"),
    ("authorizer", "gateway/slipway_gateway/edge/authorizer.py"),
    ("request context", "gateway/slipway_gateway/access/context.py"),
    ("grant store", "gateway/slipway_gateway/access/store.py"),
    ("audit", "gateway/slipway_gateway/access/audit.py"),
    ("access rule", "gateway/slipway_gateway/access/rules.py"),
    ("body budget", "gateway/slipway_gateway/http/bodybudget.py"),
    ("connection pool", "gateway/slipway_gateway/http/pool.py"),
    ("content-encoding", "gateway/slipway_gateway/http/coding.py"),
    ("binary tensor", "gateway/slipway_gateway/inference/binary.py"),
    ("routing", "gateway/slipway_gateway/inference/routing.py"),
    ("endpoints", "gateway/slipway_gateway/inference/endpoints.py"),
    ("model metadata", "gateway/slipway_gateway/inference/metadata_cache.py"),
    ("event log", "gateway/slipway_gateway/eventlog/eventlog.py"),
    ("spool", "gateway/slipway_gateway/eventlog/spool.py"),
    ("shipper", "gateway/slipway_gateway/eventlog/shipper.py"),
    ("receipt", "gateway/slipway_gateway/inference/receipts.py"),
    ("erasure", "gateway/slipway_gateway/eventlog/erasure.py"),
    ("deprovisioned", "gateway/slipway_gateway/people/deprovisioned.py"),
    ("image store", "gateway/slipway_gateway/eventlog/images.py"),
    ("label match", "gateway/slipway_gateway/eventlog/label_match.py"),
    ("webhook", "gateway/slipway_gateway/tasks/deliveries.py"),
    ("feature set", "gateway/slipway_gateway/preprocessing/lookup.py"),
    ("openapi", "gateway/slipway_gateway/control/openapi.py"),
    ("trainings", "gateway/slipway_gateway/control/trainings.py"),
    ("promotion", "jobs/slipway_jobs/promotion/promotion.py"),
    ("drift", "jobs/slipway_jobs/monitoring/drift.py"),
    ("sweep", "jobs/slipway_jobs/tuning/sweep.py"),
    ("package signature", "serving/slipway_serving/package_signature.py"),
    ("storage initializer", "serving/slipway_serving/storage.py"),
    ("smoke prediction", "controller/slipway_controller/smoke.py"),
    ("diagnosis", "controller/slipway_controller/diagnosis.py"),
    ("lease", "controller/slipway_controller/lease.py"),
    ("onnx export", "sdk/slipway/packaging/onnx_export.py"),
]


@pytest.mark.parametrize(("concept", "module"), CONCEPTS)
def test_a_search_for_the_word_finds_the_module(concept: str, module: str) -> None:
    pattern = r"[\s_-]?".join(re.split("[ -]", concept))
    assert re.search(pattern, (ROOT / module).read_text(), re.IGNORECASE)

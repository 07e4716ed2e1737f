"""Copies of a registered model's versions in PostgreSQL, where the gateway reads them.

Each Job that touches a registered model copies all of its versions: also those that were logged in
a notebook, from which PostgreSQL is not reachable (decision 40). A copy that fails is a warning,
because the result of the Job does not depend on it.
"""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from slipway.errors import NoSuchVersion, SlipwayError
from slipway.registry.tracking import Registration, Tracking
from slipway_contract.registry import (
    EVALUATION_FILE,
    MANIFEST_FILE,
    PROMOTION,
    ArtifactManifest,
    Tag,
)
from slipway_contract.tables import RegisteredVersion, VersionPromotion

from slipway_jobs import postgresql
from slipway_jobs.settings import Settings, subject_of

logger = logging.getLogger(__name__)

MOST = 1000
"""Newest versions of a registered model that are copied."""
MOST_READ = 100
"""Versions whose run and files one Job reads; later Jobs read the others."""
MOST_FAILURES = 3
"""Versions that MLflow does not return, after which a Job reads no further ones."""
INCOMPLETE = ""
"""Fingerprint of a row that was made from the tags alone; the next Job repairs it."""
MOST_FILE_BYTES = 2**20
MOST_CONFUSION_BYTES = 2**16
"""Maximum size of a confusion matrix as JSON; a larger one is left out."""
SECONDS = 30.0
EVALUATION = "slipway.evaluation."
SCORES = ("evaluate_", "evaluation_", "test_")
"""Prefixes of MLflow metrics that are scores on held-out rows, by precedence."""
BASELINE = "baseline_"
DETAIL = ("metric", "direction", "candidate", "opponent", "gain", "low", "high")
LONGEST = 2000
"""Characters of a copied text."""


def copy_versions(name: str, settings: Settings, tracking: Tracking) -> None:
    """Copy the versions of a registered model that are new or have changed.

    Without ``SLIPWAY_DATABASE_URL`` nothing is copied.
    """
    if settings.database_url is None:
        return
    try:
        _copy(name, settings.database_url, tracking)
    except (SlipwayError, postgresql.Error, OSError) as error:
        logger.warning("the versions of %s are not copied to PostgreSQL: %s", name, error)


def record_decision(result: Mapping[str, Any], settings: Settings) -> None:
    """Record what the gate decided, unless a tag of the version has it or nothing was decided."""
    if settings.database_url is None or result["state"] in ("promoted", "unchanged"):
        return
    row = VersionPromotion(
        registered_model=result["model"],
        number=int(result["version"]),
        time=datetime.now(UTC),
        promotion_id=settings.job,
        alias=result["alias"],
        result=result["state"],
        reason=str(result["reason"])[:LONGEST],
        subject=subject_of(settings.user),
        dry_run=bool(result["dryRun"]),
        detail=_detail(result),
    )
    try:
        with postgresql.connect(settings.database_url, statement_seconds=SECONDS) as connection:
            _insert_promotion(connection, row)
    except postgresql.Error as error:
        logger.warning("the decision about %s is not recorded: %s", result["model"], error)


def _copy(name: str, url: str, tracking: Tracking) -> None:
    found, aliases = tracking.registrations(name, MOST), tracking.aliases(name)
    names = {
        each.version: sorted(alias for alias, version in aliases.items() if version == each.version)
        for each in found
    }
    with postgresql.connect(url, statement_seconds=SECONDS, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT number, fingerprint FROM registered_versions WHERE registered_model = %s",
            [name],
        ).fetchall()
        known = dict(rows)
        changed = [each for each in found if known.get(int(each.version)) != _fingerprint(each)]
        # Versions that could not be read do not keep a Job from the others.
        changed.sort(key=lambda each: known.get(int(each.version)) == INCOMPLETE)
        read = failures = 0
        for each in changed[:MOST_READ]:
            row = _row(each, names[each.version], tracking)
            is_complete = row.fingerprint != INCOMPLETE
            with connection.transaction():
                if is_complete or row.number not in known:
                    _insert_version(connection, row)
                for promotion in _promotions(each):
                    _insert_promotion(connection, promotion)
            read, failures = read + is_complete, failures + (not is_complete)
            if failures == MOST_FAILURES:
                break
        for version, given in names.items():
            connection.execute(
                "UPDATE registered_versions SET aliases = %s::jsonb WHERE registered_model = %s "
                "AND number = %s AND aliases IS DISTINCT FROM %s::jsonb",
                [json.dumps(given), name, int(version), json.dumps(given)],
            )
        if len(found) < MOST:
            # A version that another Job has registered since the registry was read is newer.
            connection.execute(
                "DELETE FROM registered_versions WHERE registered_model = %s AND number <> ALL(%s) "
                "AND created < now() - interval '1 hour'",
                [name, [int(each.version) for each in found]],
            )
    if len(changed) > read:
        logger.info("%d versions of %s are left to the next Job", len(changed) - read, name)


def _row(found: Registration, aliases: list[str], tracking: Tracking) -> RegisteredVersion:
    """Return the row of a version, INCOMPLETE when MLflow does not return its run or files."""
    tags, fingerprint = found.tags, _fingerprint(found)
    try:
        run = tracking.run_record(found.run_id) if found.run_id else None
        size, confusion = _size(found, tracking), _confusion(found, tracking)
    except NoSuchVersion as error:
        logger.warning("%s is copied without its run and files: %s", found, error)
        run, size, confusion, fingerprint = None, None, None, INCOMPLETE
    dataset = {
        key: tags.get(tag)
        for key, tag in (
            ("name", Tag.DATASET),
            ("digest", Tag.DATASET_DIGEST),
            ("licence", Tag.DATASET_LICENCE),
            ("source", Tag.DATASET_SOURCE),
        )
    }
    return RegisteredVersion(
        registered_model=found.name,
        number=int(found.version),
        fingerprint=fingerprint,
        created=found.created,
        created_by=run.user if run else None,
        run_id=found.run_id or None,
        git_revision=tags.get(Tag.GIT_REVISION),
        image=tags.get(Tag.IMAGE),
        dataset=dataset if any(dataset.values()) else None,
        format=tags.get(Tag.FORMAT),
        size_bytes=size,
        digest=tags.get(Tag.DIGEST),
        signed_by=tags.get(Tag.SIGNER),
        aliases=aliases,
        metrics=_metrics(tags, run.metrics if run else {}),
        parameters={key: text[:LONGEST] for key, text in run.parameters.items()} if run else {},
        confusion_matrix=confusion,
    )


def _fingerprint(found: Registration) -> str:
    content = json.dumps([found.run_id, sorted(found.tags.items())])
    return hashlib.sha256(content.encode()).hexdigest()


def _metrics(tags: Mapping[str, str], metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return value and baseline of each score; scores of slices, which have a dot, are left out."""
    scores = {key.removeprefix(EVALUATION): tags[key] for key in tags if key.startswith(EVALUATION)}
    for prefix in SCORES:
        for key, value in metrics.items():
            if key.startswith(prefix) and "." not in key:
                scores.setdefault(key.removeprefix(prefix), str(value))
    return {
        name: {"value": _finite(value), "baseline": _finite(metrics.get(BASELINE + name))}
        for name, value in scores.items()
    }


def _finite(value: object) -> float | None:
    """Return a number; None for none, and for NaN and infinity, which JSON does not have."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _size(found: Registration, tracking: Tracking) -> int | None:
    if (content := _file(found, MANIFEST_FILE, tracking)) is None:
        return None
    try:
        return sum(each.size for each in ArtifactManifest.model_validate_json(content).files)
    except ValidationError:
        return None


def _confusion(found: Registration, tracking: Tracking) -> dict[str, Any] | None:
    """Return the confusion matrix of all held-out rows; None when the training wrote none.

    One that is too large is left out.
    """
    if (content := _file(found, EVALUATION_FILE, tracking)) is None:
        return None
    try:
        matrix = json.loads(content)["classes"].get("all")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(matrix, dict) or len(json.dumps(matrix)) > MOST_CONFUSION_BYTES:
        return None
    return matrix


def _file(found: Registration, name: str, tracking: Tracking) -> bytes | None:
    """Return a file of a packaged version. Raises NoSuchVersion when it cannot be read."""
    return tracking.file(found, name, MOST_FILE_BYTES) if Tag.DIGEST in found.tags else None


def _promotions(found: Registration) -> list[VersionPromotion]:
    """Return the promotions in the tags of a version; invalid tags are skipped."""
    rows = []
    for key, text in found.tags.items():
        if not key.startswith(PROMOTION):
            continue
        try:
            record = json.loads(text)
            row = VersionPromotion(
                registered_model=found.name,
                number=int(found.version),
                time=datetime.fromisoformat(key.removeprefix(PROMOTION)),
                promotion_id=record.get("promotionId"),
                alias=record["alias"],
                result="promoted",
                reason=str(record["why"])[:LONGEST],
                subject=subject_of(str(record["by"])),
                dry_run=False,
                detail=_detail(record),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        rows.append(row)
    return rows


def _detail(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in DETAIL if key in record}


def _insert_version(connection: postgresql.Connection, row: RegisteredVersion) -> None:
    names = list(RegisteredVersion.model_fields)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names)
    # This text contains only identifiers of our own table.
    connection.execute(
        f"INSERT INTO registered_versions ({', '.join(names)}) VALUES "  # noqa: S608
        f"({', '.join(['%s'] * len(names))}) ON CONFLICT (registered_model, number) DO UPDATE SET "
        f"{changes}",
        _values(row),
    )


def _insert_promotion(connection: postgresql.Connection, row: VersionPromotion) -> None:
    names = list(VersionPromotion.model_fields)
    connection.execute(
        f"INSERT INTO version_promotions ({', '.join(names)}) VALUES "  # noqa: S608
        f"({', '.join(['%s'] * len(names))}) ON CONFLICT DO NOTHING",
        _values(row),
    )


def _values(row: RegisteredVersion | VersionPromotion) -> list[Any]:
    """Return the values of a row; arrays and objects as JSON."""
    values = [_storable(value) for value in dict(row).values()]
    return [json.dumps(each) if isinstance(each, list | dict) else each for each in values]


def _storable(value: Any) -> Any:
    """Return a value without what PostgreSQL cannot store: NUL, lone surrogates, NaN, infinity."""
    if isinstance(value, str):
        return value.replace("\0", "").encode(errors="ignore").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(each) for key, each in value.items()}
    return value

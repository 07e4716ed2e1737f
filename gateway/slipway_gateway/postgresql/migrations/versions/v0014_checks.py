"""Values that gateways cannot read are refused where they are written.

A row from before that breaks one does not stop the migration: the constraint then holds for new
rows alone. Gateways leave the row out and name it in the log, and an administrator corrects it.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

CHECKS = (
    ("policies", "policies_priority", "priority IN ('low', 'normal', 'high')"),
    ("policies", "policies_limits", "requests_per_day >= 0 AND requests_per_month >= 0"),
    ("policies", "policies_rate", "predictions_per_minute >= 1"),
    ("policies", "policies_cache", "cache_seconds >= 1"),
    ("grants", "grants_grantee", "grantee ~ '^[a-z]+:.' AND octet_length(grantee) <= 1000"),
    ("grants", "grants_models", "models <> '' AND octet_length(models) <= 1000"),
    (
        "tasks",
        "tasks_state",
        "state IN ('queued', 'running', 'succeeded', 'failed', 'dead', 'cancelled')",
    ),
    ("tasks", "tasks_priority", "priority IN ('low', 'normal', 'high')"),
)


def upgrade() -> None:
    for table, name, condition in CHECKS:
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
        op.execute(
            f"DO $$ BEGIN ALTER TABLE {table} VALIDATE CONSTRAINT {name}; EXCEPTION WHEN "
            "check_violation THEN "
            f"RAISE WARNING 'rows of table {table} break {name}'; END $$"
        )

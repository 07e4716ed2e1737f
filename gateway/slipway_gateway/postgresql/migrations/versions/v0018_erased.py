"""Pseudonyms of erased users begin with ``erased-``, and the audit records ``user.deprovision``.

Gateways of the former release that still run write the former words: triggers replace them. Such a
gateway uses the pseudonym that ``deprovisioned`` returns, so that one trigger covers all tables.
"""
# ruff: noqa: S608  (every statement is made of the constants below)

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

OWNED = (
    "audit",
    "batches",
    "deprovisioned",
    "feedback",
    "images",
    "known_accounts",
    "prediction_events",
    "prediction_images",
    "quota_leases",
    "tasks",
    "usage",
    "webhooks",
)
TYPED = ("prediction_events", "tasks")
"""Tables with the trigger that adds a type to subjects."""
REPLACED = {
    ("audit", "action"): ("user.vanish", "user.deprovision"),
    ("deprovisioned", "pseudonym"): ("departed-", "erased-"),
}


def upgrade() -> None:
    for table in OWNED:
        op.execute(
            f"UPDATE {table} SET subject = 'erased-' || substr(subject, 10) "
            "WHERE subject LIKE 'departed-%'"
        )
    # Triggers have moved the bytes to the new names.
    op.execute("DELETE FROM storage WHERE bytes = 0")
    for table in TYPED:
        op.execute(f"DROP TRIGGER {table}_typed_subject ON {table}")
        op.execute(
            f"CREATE TRIGGER {table}_typed_subject BEFORE INSERT ON {table} FOR EACH ROW "
            "WHEN (NEW.subject !~ '^(user:|client:|erased-)') EXECUTE FUNCTION "
            "slipway_typed_subject()"
        )
    for (table, column), (old, new) in REPLACED.items():
        op.execute(
            f"UPDATE {table} SET {column} = replace({column}, '{old}', '{new}') "
            f"WHERE starts_with({column}, '{old}')"
        )
        op.execute(f"""
            CREATE FUNCTION slipway_{table}_{column}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                NEW.{column} := replace(NEW.{column}, '{old}', '{new}');
                RETURN NEW;
            END $$
        """)
        op.execute(
            f"CREATE TRIGGER {table}_{column} BEFORE INSERT ON {table} FOR EACH ROW "
            f"WHEN (starts_with(NEW.{column}, '{old}')) EXECUTE FUNCTION slipway_{table}_{column}()"
        )

"""Subjects get their type: ``user:ada``, ``client:nightly``. Before, a person and a service account
could share a name.

What let a caller in says which of the two they were, where a row has it. Elsewhere a name is a
client's if a client of that name was ever let in, asked for a task or has a grant: clients are
named by admins, people name themselves. Webhooks of a name that both have had are deleted: one of
them may be there to read along. Pseudonyms of who has left stay.

Events in a spool, and those of gateways of the former release that still run, come without the
type: a trigger adds it.
"""
# ruff: noqa: S608  (every statement is made of the constants below)

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BY_DECISION = ("prediction_events", "tasks")
OF_PEOPLE = ("audit", "departed", "known_accounts")
BY_NAME = (
    "feedback",
    "pictures",
    "prediction_pictures",
    "usage",
    "quota_leases",
    "webhooks",
    "batches",
)

TYPE_BY_DECISION = (
    "CASE WHEN split_part(decision, ':', 2) = 'service' THEN 'client:' ELSE 'user:' END"
)
TYPE_BY_NAME = "CASE WHEN subject IN (SELECT subject FROM clients) THEN 'client:' ELSE 'user:' END"
NAMED = r"subject !~ '^(departed-[0-9a-f]{16}|\:gateway)$'"  # \: is no parameter

CLIENTS = """
CREATE TEMPORARY TABLE clients ON COMMIT DROP AS
SELECT subject FROM prediction_events WHERE split_part(decision, ':', 2) = 'service'
UNION SELECT subject FROM tasks WHERE split_part(decision, ':', 2) = 'service'
UNION SELECT substr(grantee, 8) FROM grants WHERE grantee LIKE 'client:%'
"""
SHARED = """
DELETE FROM webhooks WHERE subject IN (SELECT subject FROM clients) AND (
    subject IN (SELECT subject FROM known_accounts)
    OR subject IN (SELECT subject FROM prediction_events
      WHERE split_part(decision, ':', 2) <> 'service')
    OR subject IN (SELECT subject FROM tasks WHERE split_part(decision, ':', 2) <> 'service'))
"""
FUNCTION = """
CREATE FUNCTION slipway_typed_subject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.subject := CASE WHEN split_part(NEW.decision, ':', 2) = 'service' THEN 'client:'
      ELSE 'user:' END || NEW.subject;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.execute(CLIENTS)
    op.execute(SHARED)
    for tables, kind in (
        (BY_DECISION, TYPE_BY_DECISION),
        (OF_PEOPLE, "'user:'"),
        (BY_NAME, TYPE_BY_NAME),
    ):
        for table in tables:
            op.execute(f"UPDATE {table} SET subject = {kind} || subject WHERE {NAMED}")
    op.execute(
        "DELETE FROM storage WHERE bytes = 0"
    )  # triggers have moved the bytes to the new names
    op.execute("DELETE FROM rate_levels")  # full again within a minute
    op.execute(FUNCTION)
    for table in BY_DECISION:
        op.execute(
            f"CREATE TRIGGER {table}_typed_subject BEFORE INSERT ON {table} FOR EACH ROW "
            "WHEN (NEW.subject !~ '^(user:|client:|departed-)') EXECUTE FUNCTION "
            "slipway_typed_subject()"
        )

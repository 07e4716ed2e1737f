"""Pseudonyms of erased users begin with ``erased-``, and the audit records ``user.deprovision``.

Earlier pseudonyms stay: they are opaque, and a year of events would be rewritten. No statement
locks a table that running gateways write, so that a replaced function is used instead of triggers.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE OR REPLACE FUNCTION slipway_typed_subject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT starts_with(NEW.subject, 'erased-') THEN
        NEW.subject := CASE WHEN split_part(NEW.decision, ':', 2) = 'service' THEN 'client:'
          ELSE 'user:' END || NEW.subject;
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.execute(FUNCTION)
    op.execute("UPDATE audit SET action = 'user.deprovision' WHERE action = 'user.vanish'")

"""Bytes that each caller stores, kept by triggers: so they are right whoever inserts, deletes or
renames.
"""
# ruff: noqa: S608  (every statement is made of the constants below)

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ROW = 256
"""Bytes of a row besides its content."""
SIZES = {
    "tasks": (
        f"{ROW} + octet_length(body) + coalesce(octet_length(answer), 0) + "
        "pg_column_size(caller) + pg_column_size(headers)"
    ),
    "feedback": f"{ROW} + coalesce(octet_length(comment), 0) + coalesce(pg_column_size(label), 0)",
    "pictures": f"{ROW} + octet_length(content)",
    "prediction_pictures": f"{ROW}",
    "batches": f"{ROW} + stored",
}
KINDS = {"prediction_pictures": "pictures"}

# One statement changes the counters in the order of their keys, so that two statements never wait
# for one another.
COUNT = """
CREATE FUNCTION count_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO storage AS known (subject, kind, bytes)
    SELECT subject, '{kind}', sum(size) FROM ({changes}) AS changes GROUP BY subject
      HAVING sum(size) <> 0 ORDER BY subject
    ON CONFLICT (subject, kind) DO UPDATE SET bytes = known.bytes + excluded.bytes;
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER storage_{event} AFTER {event} ON {table} REFERENCING {rows}
FOR EACH STATEMENT EXECUTE FUNCTION count_{table}_{event}()
"""
# Files come and go by batch, also when the batch itself is deleted: then its row is gone, with what
# it counted.
COUNT_FILES = """
CREATE FUNCTION count_batch_files_{event}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE batches SET stored = stored + changes.size
    FROM (SELECT batch_id, {sign} sum({row} + octet_length(content)) AS size FROM {rows}
      GROUP BY batch_id) AS changes
    WHERE batches.batch_id = changes.batch_id;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "storage",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column(
            "kind", sa.Text, primary_key=True, comment="pictures, tasks, batches or feedback"
        ),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.add_column(
        "pictures", sa.Column("subject", sa.Text, comment="who sent it first, and stores it")
    )
    op.execute("""
        UPDATE pictures SET subject = first.subject FROM (
            SELECT DISTINCT ON (digest) digest, subject FROM prediction_pictures
              ORDER BY digest, time
        ) AS first WHERE first.digest = pictures.digest
    """)
    op.execute("DELETE FROM pictures WHERE subject IS NULL")  # nothing links to them
    op.alter_column("pictures", "subject", nullable=False)
    op.create_index("ix_pictures_subject", "pictures", ["subject"])
    op.add_column(
        "batches",
        sa.Column(
            "stored",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="bytes of its files",
        ),
    )
    op.execute(f"""
        UPDATE batches SET stored = files.size FROM (
            SELECT batch_id, sum({ROW} + octet_length(content)) AS size FROM batch_files
              GROUP BY batch_id
        ) AS files WHERE files.batch_id = batches.batch_id
    """)
    for table, size in SIZES.items():
        kind = KINDS.get(table, table)
        added, removed = (
            f"SELECT subject, {size} AS size FROM added",
            f"SELECT subject, -({size}) AS size FROM removed",
        )
        for event, changes, rows in (
            ("insert", added, "NEW TABLE AS added"),
            ("delete", removed, "OLD TABLE AS removed"),
            ("update", f"{added} UNION ALL {removed}", "OLD TABLE AS removed NEW TABLE AS added"),
        ):
            op.execute(COUNT.format(table=f"{table}_{event}", kind=kind, changes=changes))
            op.execute(TRIGGER.format(table=table, event=event, rows=rows))
        op.execute(f"""
            INSERT INTO storage AS known (subject, kind, bytes)
            SELECT subject, '{kind}', sum({size}) FROM {table} GROUP BY subject
            ON CONFLICT (subject, kind) DO UPDATE SET bytes = known.bytes + excluded.bytes
        """)
    for event, sign, rows in (("insert", "", "added"), ("delete", "-", "removed")):
        op.execute(COUNT_FILES.format(event=event, sign=sign, row=ROW, rows=rows))
        named = f"NEW TABLE AS {rows}" if event == "insert" else f"OLD TABLE AS {rows}"
        op.execute(TRIGGER.format(table="batch_files", event=event, rows=named))

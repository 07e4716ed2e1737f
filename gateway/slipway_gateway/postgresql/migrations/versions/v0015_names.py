"""Name tables by the glossary: images, and users whom the identity provider deprovisioned."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = {
    "pictures": "images",
    "prediction_pictures": "prediction_images",
    "departed": "deprovisioned",
}
COLUMNS = ("subject", "digest", "time")
EVENTS = ("insert", "delete", "update")


def upgrade() -> None:
    for old, new in TABLES.items():
        op.execute(f"ALTER TABLE {old} RENAME TO {new}")
    for index in ("pictures_subject", *(f"prediction_pictures_{name}" for name in COLUMNS)):
        op.execute(f"ALTER INDEX ix_{index} RENAME TO ix_{index.replace('pictures', 'images')}")
    for table in ("pictures", "prediction_pictures"):
        for event in EVENTS:
            # The function has the kind in its text.
            op.execute(f"""
                DO $do$ BEGIN EXECUTE replace(
                    pg_get_functiondef('count_{table}_{event}'::regproc), '''pictures''',
                    '''images'''
                ); END $do$
            """)
            name = f"count_{TABLES[table]}_{event}"
            op.execute(f"ALTER FUNCTION count_{table}_{event}() RENAME TO {name}")
    op.execute("UPDATE storage SET kind = 'images' WHERE kind = 'pictures'")

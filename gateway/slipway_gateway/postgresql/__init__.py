"""Access to PostgreSQL: connections, tables, migrations and the job queue."""

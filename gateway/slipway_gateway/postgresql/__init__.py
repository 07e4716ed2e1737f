"""The database: its door, its tables and their migrations, its queue."""

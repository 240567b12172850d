"""The ledger's ports in SQL, one file a subject: the same SQLAlchemy Core statements on SQLite and Postgres."""

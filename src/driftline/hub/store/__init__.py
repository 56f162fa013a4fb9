"""Where the hub keeps what it knows: SQLite, one folder, control tables through SQLAlchemy Core."""

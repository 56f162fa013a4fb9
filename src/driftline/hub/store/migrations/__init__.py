"""The revisions of the database's schema, one file each in `versions`, for Alembic; see `driftline.hub.store.schema`."""

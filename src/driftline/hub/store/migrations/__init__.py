"""The revisions of the database's schema for Alembic, one file each in `versions`; see `driftline.hub.store.schema`."""

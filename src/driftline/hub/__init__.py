"""The one place: API, ingest, store, scorer, incidents, dashboard."""

"""The dashboard: server-rendered pages that read well without scripts, each with a `.json` twin."""

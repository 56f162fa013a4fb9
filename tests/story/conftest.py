"""The script and its model are run by the test, not collected beside it."""

collect_ignore = ["story.py", "model"]

"""Repeatable measurements of the server: `python -m bench` has a table and results.json."""

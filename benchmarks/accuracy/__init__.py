"""Accuracy tables beside published numbers, one command each: see `runs.py` and `table.py`."""

"""The console: web pages that use only the public API. `pages.py` serves the shells, `assets.py` what they load."""

"""A reader for each kind of source; a further kind is a module here, and its entry in `sources/config.py`."""

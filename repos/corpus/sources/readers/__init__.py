"""A reader for each kind of source; a further kind is a module here, and its entry in `sources/config.py`.

A reader knows its own source alone: neither the other sources, nor what becomes of its rows.
"""

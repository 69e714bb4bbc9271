"""Penalties shown: found by name, drawn as curves, and written down as a page."""

"""The command line: one file per noun, and `render.py`."""

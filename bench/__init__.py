"""Kasbah measured beside what people would use instead. `python -m bench`; see docs/performance.md."""

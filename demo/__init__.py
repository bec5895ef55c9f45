"""The demonstration: a real installation, real apps, real traffic, and a report. `python -m demo`."""

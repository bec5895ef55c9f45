"""How a replica runs: `interface.py`, then one file per way of running."""

"""How well does the scaling rule do on recorded traffic? `python -m bench.scaling` replays traces under it and others.

`simulation` is one service in simulated time, `rules` are what decides in it, `traces` the traffic.
"""

"""The runner: one small process per site that owns the replicas' processes and logs, and outlives the agent.

It forks, reaps, freezes, ends and logs; it decides nothing. It has one thread, uses the standard library only (it runs
under `python -I -S`), and is asked over a Unix socket, a line of JSON for each request and each answer.

    agent ── runner.sock ──> server.py ──> keeper.py ──> spawn.py ──fork, confine, exec──> replica
                                              │  ▲                                            │
                     records.py <── writes ───┘  └── journal.py <── named pipes (stdout, stderr) ──┘

When it dies, replicas go on: their pipes are open at both ends on their own side, so nothing they write fails or is
lost while the pipe has room. The next runner finds the records, adopts what is alive and clears what is not.

`launch.py` is the agent's side: it starts a runner where none answers.
"""

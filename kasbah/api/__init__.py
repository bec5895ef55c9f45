"""What crosses between processes: the file, the public API, the agent's protocol, and the signatures on them."""

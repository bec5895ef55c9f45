"""The site's Envoy: `translate.py` writes its configuration, `server.py` serves it, `process.py` runs it."""

import os

# Read by gRPC when it is first imported: the agent starts processes, which gRPC's fork handlers would abort.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

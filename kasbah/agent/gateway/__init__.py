"""The site's Envoy: `translate.py` writes its configuration, `server.py` serves it, `process.py` runs it."""

import os

# Read by gRPC when it is first imported. The agent starts processes; gRPC's fork handlers would only delay and complain.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

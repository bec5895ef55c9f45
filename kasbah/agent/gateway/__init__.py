"""The site's Envoy: `translate.py` writes its configuration, `server.py` serves it, `process.py` runs it."""

"""The site's own audit log: an append-only file with its tree, a key of its own, and a word for the control plane."""

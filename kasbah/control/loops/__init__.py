"""What the control plane does on its own: take a snapshot, decide, commit."""

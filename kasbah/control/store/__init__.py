"""What the control plane remembers: names, labels, digests, counts and reasons. Never a payload, never a secret."""

"""The control plane, one per installation: names, labels, digests, counts and reasons; never a payload."""

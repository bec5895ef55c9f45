"""The site's brain: makes the site what the desired state says, and keeps it so with the control plane away."""

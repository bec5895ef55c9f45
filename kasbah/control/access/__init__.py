"""Who calls, and may they? Anything unclear is a no."""

"""What people and agents can do: one file each. A use case gets an open transaction and answers with records."""

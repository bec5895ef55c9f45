"""The judgements of Kasbah, pure: every question has one file here, a plain function of what it is given."""

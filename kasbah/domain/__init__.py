"""The nouns of Kasbah, frozen: plain data with no behaviour beyond its own invariants, importing nothing of ours."""

"""Many videos: which there are, who runs them, and what becomes of each."""

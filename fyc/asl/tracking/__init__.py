"""Follows one face through a video: trackers, how they are judged, who speaks, and how sure that is."""

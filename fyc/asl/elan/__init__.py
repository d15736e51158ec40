"""ELAN documents: what they hold, reading, writing, and the curves that ELAN shows below the video."""

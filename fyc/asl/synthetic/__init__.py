"""Synthetic clips with known pose, expression and grammatical markers: the ground truth of the bench.

Everything that comes from here is synthetic, whatever its textures were taken from. Numbers that are measured on it say
nothing about ASL grammar, and do not belong beside those of annotated corpora.
"""

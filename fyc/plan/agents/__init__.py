"""The team of OptiCo as we reconstruct it: roles that talk through the Global Message Pool."""

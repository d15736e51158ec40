"""The cost model: time and memory of a training step for many layouts at once."""

"""Learning from annotated documents: what `fyc asl train` does around the training itself."""

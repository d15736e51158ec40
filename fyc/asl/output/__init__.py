"""What `fyc asl run` writes of a video."""

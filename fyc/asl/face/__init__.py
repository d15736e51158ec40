"""Faces in single images: detection, landmarks, the canonical mesh, head pose."""

"""Decoding of videos and still images to RGB frames."""

"""Model cards, face detectors and face embedders."""

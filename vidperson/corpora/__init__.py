"""Readers of the official lists of each corpus."""

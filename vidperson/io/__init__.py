"""Kaldi lists and archives, atomic writes, journaled job outputs."""

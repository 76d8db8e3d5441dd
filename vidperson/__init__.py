"""Recognise persons in video by face, voice and body: the package behind the recipe's stages."""

__version__ = "0.1.0"

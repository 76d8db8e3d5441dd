"""Training of networks; needs the torch extra."""

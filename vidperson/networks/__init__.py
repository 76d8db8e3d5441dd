"""Model cards: installing, converting and opening the networks that they describe."""

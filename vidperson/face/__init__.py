"""What only faces have: alignment, detection, choice, embedding, and the data to train on."""

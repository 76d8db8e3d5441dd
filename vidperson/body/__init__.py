"""What only bodies have: cutting persons out of frames, and how their networks take them."""

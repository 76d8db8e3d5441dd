"""Network definitions in PyTorch, named so that public checkpoints load into them; they need the torch extra."""

"""What only the speaker modality has: features of sound."""

"""Who is in a video, and when: what stages 4 and 5, the facade and the console do alike."""

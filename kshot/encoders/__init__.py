"""Input -> embedding, one network per file."""

"""Files, folders and lines -> examples: what the commands teach with, and what they ask about."""

"""One file per noun or verb: its commands, and what they print."""

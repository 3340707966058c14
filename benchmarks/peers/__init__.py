"""Other libraries, each in an environment of its own: what kshot is compared with."""

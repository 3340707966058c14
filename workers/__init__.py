"""The processes that compute: the adaptation worker, and the commands that publish and train checkpoints."""

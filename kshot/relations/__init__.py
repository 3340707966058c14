"""How tasks, data sets and checkpoints relate: which checkpoint to take, what carries over to what."""

"""Redis streams: the doorbell for adapt tasks, the path of predict calls, and the replies. Holds no truth."""

"""The servers to beat: plain FastAPI apps as one would write them in an afternoon. No record, no queue, no keys."""

"""The whole service under faults: callers that write down what they are told, faults by a seed, and an auditor that
compares the two when all is quiet again. `python -m benchmarks.faults --seconds 600 --seed 1`."""

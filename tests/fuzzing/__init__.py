"""Bytes from anywhere into everything that decodes them, and requests from anywhere into every route.

Short forms are tests; the long ones are `python -m tests.fuzzing decoders` and `python -m tests.fuzzing routes`, whose
page is benchmarks/results/fuzz.md. It lies with the tests because it reaches into the application, which benchmarks may
not.
"""

"""Mutation testing of the code that claims, completes and lets in: is there a test for each thing it does?

One small change at a time is made to a copy of the checkout, in Python (operators of cosmic-ray) and in what Postgres
is told (`operators`), then the narrow tests of that module run, in a forked process on a database of their own. A
change that no test notices has survived: `argued.toml` says of each why that is right, or the tests get one more.
"""

"""The command line, ``kshot``: few-shot models from folders, CSV and npz files, and the service's administration.

Data goes to stdout, everything else to stderr. Exit codes: 0 good, 1 refused by the service or failed, 2 wrong use,
3 the service is not reachable, 130 interrupted.
"""

"""Everything that crosses a process boundary: tasks, checkpoints, errors, HTTP bodies.

No heavy imports.
"""

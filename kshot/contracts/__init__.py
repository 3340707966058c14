"""Everything that crosses a process boundary: tasks, checkpoints, errors, HTTP bodies, wire encoding. No heavy imports."""

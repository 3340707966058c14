"""Load through HTTP, against kshot and against the servers it must beat."""

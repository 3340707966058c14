"""Postgres (the truth) and the object store. Every function works inside the caller's transaction and never commits."""

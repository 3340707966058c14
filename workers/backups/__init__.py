"""Backups: a dump of Postgres and the objects its rows need, in a folder; made, checked, restored.

Why the dump comes first. An object is written before the row that names it, and never changed. So each row of a dump
had its objects at the moment of the dump, and only what is deleted before it is copied can be missed. Then the dump is
made again: whatever was deleted in between is not named by the new one. Which objects are needed is read in the very
snapshot that is dumped.
"""

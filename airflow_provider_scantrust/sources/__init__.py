"""Rows of files and of Python objects, read once: each with its line, or with what is wrong with it."""

"""
Rows of files and of Python objects, read once: each with its line, or with what is wrong with it.

Rule: never guess one value into another. Remove the known wrapper of a known tool, warn once per field about anything
doubtful, and reject what would be stored wrongly.
"""

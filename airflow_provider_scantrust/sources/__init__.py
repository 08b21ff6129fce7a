"""
Read rows from files and from Python, once: each with its line number, or with its error.

Rule: never guess one value into another. Remove the known wrapper of a known tool, warn once per field
about anything doubtful, and reject what would be stored wrongly.
"""

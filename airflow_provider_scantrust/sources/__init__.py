"""
Read rows from files and from Python, once: each with its line number, or with its error.

Rule: never guess a value. Remove the known wrapper of a known tool, warn once per field about anything
doubtful, and reject values that would be stored wrongly.
"""

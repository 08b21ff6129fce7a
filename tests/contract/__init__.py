"""Answers of the service, each marked documented, observed or assumed; client and sandbox are held to the same."""

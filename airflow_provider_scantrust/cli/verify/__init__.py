"""Compare a service with what this package assumes about it."""

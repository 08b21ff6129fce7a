"""Waiting for asynchronous jobs, without I/O: what is known (``jobs``), whose turn (``queue``), how fast (``pacing``)."""

"""Wait for jobs, without I/O: what is known (``jobs``), which is next (``queue``), how fast (``pacing``)."""

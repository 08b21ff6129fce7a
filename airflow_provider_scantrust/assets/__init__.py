"""Assets of the Scantrust provider: ``scantrust://<API host>/<what>``."""

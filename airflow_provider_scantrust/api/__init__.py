"""The Scantrust REST API without any I/O: no sockets, no clock, no sleep, no randomness, no Airflow."""

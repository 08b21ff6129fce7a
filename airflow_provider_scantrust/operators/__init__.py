"""Airflow operators of the Scantrust provider."""

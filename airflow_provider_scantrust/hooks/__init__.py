"""Airflow hooks of the Scantrust provider."""

"""Airflow sensors of the Scantrust provider."""

"""Airflow triggers of the Scantrust provider."""

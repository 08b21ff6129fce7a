"""Airflow decorators of the Scantrust provider."""

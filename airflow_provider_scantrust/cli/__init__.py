"""The command line: `airflow scantrust …`, and `python -m airflow_provider_scantrust …` where Airflow takes no commands."""

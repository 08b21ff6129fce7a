"""The Scantrust page in the Airflow UI (Airflow 3.1 and later)."""

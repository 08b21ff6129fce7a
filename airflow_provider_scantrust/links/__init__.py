"""Links that the Airflow UI shows on tasks of the Scantrust provider."""

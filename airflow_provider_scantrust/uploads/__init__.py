"""Turn rows into calls and answers into a report, without Airflow and without sockets."""

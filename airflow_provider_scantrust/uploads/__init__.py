"""From rows to calls to a report, without Airflow and without sockets."""

"""Scantrust provider for Apache Airflow. This module imports nothing."""

__version__ = "0.1.0"

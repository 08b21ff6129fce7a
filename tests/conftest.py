"""What all tests share: an AIRFLOW_HOME of their own, made before Airflow is imported."""

from __future__ import annotations

import os
import tempfile

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]

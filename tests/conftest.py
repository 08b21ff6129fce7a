"""What all tests share: an AIRFLOW_HOME of their own, made before Airflow is imported, and how Hypothesis looks."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]

# The same examples in each run; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile("search", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

"""What all tests share: an AIRFLOW_HOME of their own, made before Airflow is imported, and how Hypothesis looks."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version
from importlib.util import find_spec

from hypothesis import settings

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]

# The same examples in each run; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile("search", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Where Airflow does not have a thing, or an extra is not installed, there is nothing to test.
_AIRFLOW = tuple(map(int, version("apache-airflow").split(".")[:2]))
_SINCE = {
    "unit/test_assets.py": (3, 0),
    "unit/test_start.py": (3, 3),
    "unit/test_plugin.py": (3, 1),
}
collect_ignore = [path for path, since in _SINCE.items() if _AIRFLOW < since]
if find_spec("openlineage") is None:
    collect_ignore.append("integration/test_lineage.py")

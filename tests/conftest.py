"""What all tests share: an AIRFLOW_HOME of their own, made before Airflow is imported, and how Hypothesis looks."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]

# The same examples in each run, fewer of them in `make test-fast`; HYPOTHESIS_PROFILE=search looks for new
# ones.
settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile("fast", settings.get_profile("same"), max_examples=20)
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

# System tests of one group run in one process, on one Airflow; the groups run side by side, before all other
# tests.
AIRFLOW_GROUPS: Mapping[str, str] = {
    "test_on_airflow.py": "airflow-1",
    "test_situations.py": "airflow-1",
    "test_bulk.py": "airflow-1",
    "test_lineage_events.py": "airflow-1",
    "test_examples.py": "airflow-2",
    "test_documented.py": "airflow-2",
    "test_without_worker.py": "airflow-2",
    "test_waits_at_scale.py": "airflow-2",
    "test_database.py": "airflow-2",
}

# Each of the processes imports Airflow and collects all tests, which takes half as long again with the garbage
# collector. What is there afterwards stays to the end, so no later collection looks at it again.
gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the tests of a real Airflow, which take longest, have the processors first."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if is_worker and "/system/" not in item.nodeid and os.getpriority(os.PRIO_PROCESS, 0) == 0:
        os.nice(5)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Spread single tests; pytest-xdist's own groups have no effect with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            if "/system/ui/" in path:
                return "airflow-ui"
            if "/system/" in path:
                return AIRFLOW_GROUPS.get(path.rpartition("/")[2], nodeid)
            return nodeid

    return Scheduling(config, log)

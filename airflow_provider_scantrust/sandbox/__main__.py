"""`python -m airflow_provider_scantrust.sandbox` is `scantrust-sandbox`."""

import sys

from airflow_provider_scantrust.sandbox.cli import main

sys.exit(main())

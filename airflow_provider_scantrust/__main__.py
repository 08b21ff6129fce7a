"""`python -m airflow_provider_scantrust …` is `airflow scantrust …`."""

import sys

from airflow_provider_scantrust.cli.main import main

sys.exit(main())

"""What the Scantrust provider tells OpenLineage."""

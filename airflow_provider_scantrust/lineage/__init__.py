"""OpenLineage metadata of the Scantrust provider."""

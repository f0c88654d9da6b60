"""Distribution: what turns finished runs into filesets of bundles."""

"""Sample data for tests, benchmarks and the demonstration, and the demonstration itself."""

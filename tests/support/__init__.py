"""What tests of several distributions, and benchmarks, share."""

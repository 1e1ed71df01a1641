"""Contract suites and a harness that users' plugins run too."""

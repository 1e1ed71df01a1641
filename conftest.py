"""Root of the test run: makes ``tests`` and ``examples`` importable from the checkout."""

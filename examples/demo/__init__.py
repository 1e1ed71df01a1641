"""The demo workload: real work on the files of a folder, with failures, retries and slow tasks."""

"""The worker process: intake, execution, settlement, events."""

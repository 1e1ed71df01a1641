"""opsq's own Redis transport: kombu's keys and envelopes, taken and settled in batches by one script."""

"""RabbitMQ at full speed: buffered frames, acknowledgements and confirms in batches."""

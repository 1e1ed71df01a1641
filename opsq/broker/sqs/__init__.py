"""Amazon SQS as a broker, through kombu's transport."""

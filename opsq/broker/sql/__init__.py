"""PostgreSQL and MySQL/MariaDB as brokers, in kombu's tables."""

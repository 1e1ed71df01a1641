"""MongoDB as a broker, in kombu's collections."""

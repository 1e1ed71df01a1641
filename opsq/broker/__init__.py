"""The only package that imports kombu: connections, topology, publishing, consuming, queue depth."""

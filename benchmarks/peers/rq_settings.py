"""Where ``rq worker-pool`` finds its server."""

from benchmarks.peers.place import URL as REDIS_URL

__all__ = ["REDIS_URL"]

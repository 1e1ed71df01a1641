"""opsq: background jobs for Python, and knowing what they are doing."""

__version__ = "0.1.0"

"""The opsq command."""

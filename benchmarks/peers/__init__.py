"""opsq beside other task queues: same work, same servers, same run. The drivers of others run in ``.venv-peers``."""

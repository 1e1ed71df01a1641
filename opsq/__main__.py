"""``python -m opsq`` is the ``opsq`` command."""

from opsq.cli.main import main

if __name__ == "__main__":
    main()

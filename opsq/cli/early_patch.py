"""Run ``opsq`` with the standard library patched by gevent or eventlet, before anything else is imported.

A program of its own, run by its path: ``python -m opsq`` and the ``opsq`` script have imported sockets,
locks and kombu by the time they know which pool is wanted, and what was imported before a patch keeps
the unpatched parts. So ``opsq worker -P gevent`` replaces itself by this (see ``cli/relaunch.py``).

Arguments: the library, the folder that was first on ``sys.path``, then those of ``opsq``.
"""

import sys
import warnings


def patch(library: str) -> None:
    """Patch the standard library of this process."""
    if library == "gevent":
        from gevent import monkey

        monkey.patch_all()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # four lines at every start, for people who chose it on purpose
            import eventlet
        eventlet.monkey_patch()


def main() -> None:
    """Put ``sys.path`` back as it was, patch, and go on as ``opsq``."""
    library, folder, *words = sys.argv[1:]
    if not sys.flags.safe_path:
        # Our own folder is first now, and would pass its modules off as others'.
        sys.path[0] = folder
    patch(library)
    from opsq.cli.main import main as opsq

    sys.argv = ["opsq", *words]
    opsq()


if __name__ == "__main__":
    main()

"""The project. The app is imported with it, so that ``shared_task`` finds it wherever Django runs."""

from project.app import app

__all__ = ["app"]

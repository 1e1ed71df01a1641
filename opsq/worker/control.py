"""Decorators for remote commands of your own, under the name that Celery's module of this name has."""

from __future__ import annotations

from opsq.core.own_commands import control_command, inspect_command

__all__ = ["control_command", "inspect_command"]

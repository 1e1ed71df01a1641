"""How Django knows this app."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """Orders of a shop."""

    name = "orders"

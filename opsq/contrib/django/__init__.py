"""opsq in a Django project: what ``DJANGO_SETTINGS_MODULE`` switches on, and the backend for ``django.tasks``."""

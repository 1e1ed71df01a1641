"""One table."""

from django.db import models


class Pet(models.Model):
    """A pet."""

    name = models.CharField(max_length=50)

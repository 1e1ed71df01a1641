"""How Django knows this app; with a check that fails on demand."""

import os

from django.apps import AppConfig
from django.core import checks


@checks.register
def pets_are_well(app_configs=None, **kwargs):
    """An error when ``PETS_ILL`` is set."""
    return [checks.Error("a pet is ill", hint="call the vet", id="pets.E001")] if "PETS_ILL" in os.environ else []


class PetsConfig(AppConfig):
    """Pets."""

    name = "tests.django.pets"
    label = "pets"

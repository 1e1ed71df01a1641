"""The opsq app: settings from Django's, tasks from the installed apps."""

import os

from opsq import Opsq

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Opsq("project")
app.config_from_object("django.conf:settings", namespace="OPSQ")
app.autodiscover_tasks()

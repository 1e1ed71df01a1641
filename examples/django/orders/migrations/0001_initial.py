"""The table of orders."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Make it."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("customer", models.EmailField(max_length=254)),
                ("total", models.IntegerField()),
                ("state", models.CharField(max_length=20, default="new")),
                ("notes", models.TextField(default="")),
                ("placed_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]

"""What a shop remembers of an order."""

from django.db import models


class Order(models.Model):
    """One order. total: cents. state: new, then confirmed or expired. notes: what was done, a line each."""

    customer = models.EmailField()
    total = models.IntegerField()
    state = models.CharField(max_length=20, default="new")
    notes = models.TextField(default="")
    placed_at = models.DateTimeField(auto_now_add=True)

    def note(self, text: str) -> None:
        """Add a line to the notes."""
        self.notes += f"{text}\n"
        self.save(update_fields=["notes", "state"])

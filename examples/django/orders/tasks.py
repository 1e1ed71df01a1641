"""Background work, written in both ways: opsq's (that is, Celery's) and that of ``django.tasks``."""

import os

from opsq import shared_task
from orders.models import Order

try:
    from django.tasks import task
except ImportError:  # before Django 6.0
    from django_tasks import task

UNPAID = 0


@shared_task(bind=True)
def confirm(self, order_id):
    """Confirm an order, then have a mail sent."""
    order = Order.objects.get(pk=order_id)
    order.state = "confirmed"
    order.note(f"confirmed in attempt {self.request.retries + 1} by process {os.getpid()}")
    send_receipt.enqueue(order_id)
    return order.total


@task(queue_name="mail", takes_context=True)
def send_receipt(context, order_id):
    """Send the receipt; here only a note of it."""
    order = Order.objects.get(pk=order_id)
    order.note(f"receipt to {order.customer} in attempt {context.attempt}")
    return order.customer


@shared_task
async def count_orders():
    """How many there are, asked for on the event loop."""
    return await Order.objects.acount()


@shared_task
def expire_unpaid():
    """Give up orders that nobody paid; the schedule calls it."""
    return Order.objects.filter(state="new", total=UNPAID).update(state="expired")

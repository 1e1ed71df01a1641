"""Place an order, and look at it again."""

import json

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from orders.models import Order
from orders.tasks import confirm


@csrf_exempt
@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Save the order; its confirmation begins when the order is there for everybody to see."""
    wanted = json.loads(request.body)
    with transaction.atomic():
        order = Order.objects.create(customer=wanted["customer"], total=wanted["total"])
        if order.total:
            confirm.delay_on_commit(order.id)
    return JsonResponse({"id": order.id}, status=201)


def show(request: HttpRequest, order_id: int) -> JsonResponse:
    """What became of the order."""
    order = get_object_or_404(Order, pk=order_id)
    return JsonResponse({"state": order.state, "total": order.total, "notes": order.notes.splitlines()})

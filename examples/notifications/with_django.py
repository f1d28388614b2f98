"""A web application with threads: Django, and one hub that all of them share."""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from gateman import HubError, SyncHub

settings.configure(ALLOWED_HOSTS=["localhost", "127.0.0.1"], ROOT_URLCONF=__name__)

# The hub connects at the first call, separately in each process that the server forks.
hub = SyncHub(os.environ["GATEMAN_BUS"])


@require_POST
def tell(request: HttpRequest, user: str, number: int) -> HttpResponse:
    """Send to the devices of a user that are connected now; others do not get it later."""
    hub.send_to_uid(user, f"Order {number} is ready.")
    return HttpResponse(status=204)


@require_GET
def is_online(request: HttpRequest, user: str) -> JsonResponse:
    """Tell whether the user is connected."""
    try:
        return JsonResponse(hub.is_uid_online(user), safe=False)
    except HubError as error:
        return JsonResponse({"detail": str(error)}, status=503)


urlpatterns = [
    path("users/<str:user>/orders/<int:number>/ready", tell),
    path("users/<str:user>/online", is_online),
]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)

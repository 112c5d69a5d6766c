"""Django, as WSGI and as ASGI: the client starts when Django is ready, as docs/servers.md says."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import django
from django.apps import AppConfig
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path
from shop import answer, thread_client


class ShopConfig(AppConfig):  # type: ignore[misc]  # no types are published
    """The application."""

    name = __name__

    def ready(self) -> None:
        """Start the client."""
        thread_client().set_as_main()


settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], INSTALLED_APPS=[f"{__name__}.ShopConfig"]
)
django.setup(set_prefix=False)


def index(request: HttpRequest) -> JsonResponse:
    """Return this process's id and its value."""
    return JsonResponse(answer())


urlpatterns = [path("", index)]

wsgi = WSGIHandler()
asgi = ASGIHandler()

"""Django, as WSGI and as ASGI: the client starts when Django is ready."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path
from shop import answer, thread_client

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
django.setup(set_prefix=False)
thread_client().set_as_main()


def index(request: HttpRequest) -> JsonResponse:
    """Return this process's id and its value."""
    return JsonResponse(answer())


urlpatterns = [path("", index)]

wsgi = WSGIHandler()
asgi = ASGIHandler()

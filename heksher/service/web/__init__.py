"""The service as an ASGI application: requests, routes, pages, and the server that runs them.

Knows Starlette, uvicorn and the layers below: ``domain`` and ``storage``.
"""

"""A form that came while its log-in was locked: kept as it was typed, and sent again by the person.

Kept on the server, so that whoever stands before the locked page sees nothing of it.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParserError

from app.models import LogIn

TOKEN = "csrfmiddlewaretoken"
#: Of a form with a field that is called like this nothing is kept.
SECRET = ("password", "passphrase", "pin", "code", "token", "authorization")


def form_of(request: HttpRequest) -> dict[str, Any] | None:
    """What to keep of a form: where it goes, where it was filled in, and its fields.

    None where there is nothing to keep, where it is too long, or for secrets. Films and other files
    are not kept: ``files`` says that there were some.
    """
    try:
        fields = [(name, values) for name, values in request.POST.lists() if name != TOKEN]
        files = bool(request.FILES)
    except (SuspiciousOperation, UnreadablePostError, MultiPartParserError):
        return None
    if any(word in name.lower() for name, _values in fields for word in SECRET):
        return None
    form = {
        "path": request.get_full_path(),
        "page": urlsplit(request.headers.get("Referer", "")).path,
        "fields": fields,
        "files": files,
    }
    return form if fields and len(json.dumps(form)) <= LogIn.MOST_HELD else None

"""Who asks: a machine with a token, and what that token lets it do. Nothing else is looked at.

A session is no way in, also not that of whoever sits at this computer: what a machine may read is
shown to clinicians by the pages alone, which keep to the blind first read.
"""

from __future__ import annotations

import math
from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from app.api import limits
from app.api.problems import Problem
from app.models import DeviceToken, Scope

CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Token(HttpBearer):
    """Lets in whoever has a token in force with ``scope``; None: with any."""

    def __init__(self, scope: Scope | None) -> None:
        super().__init__()
        self.scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> DeviceToken:
        """The token that was sent; raises Problem."""
        found = DeviceToken.of(token.strip())
        if found is None:
            raise _wrong(request.META.get("REMOTE_ADDR", ""))
        if self.scope and not found.may(self.scope):
            raise Problem("scope_missing", 403, scope=str(self.scope.label))
        bucket = limits.uploads if self.scope == Scope.UPLOAD else limits.requests
        if wait := bucket.take(found.pk):
            seconds = str(max(1, math.ceil(wait)))
            headers = {"Retry-After": seconds}
            raise Problem("too_many_requests", 429, headers, seconds=seconds)
        found.note_use()
        return found


def needs(scope: Scope | None) -> dict[str, Any]:
    """What an operation says of the right it needs: to the check, and to the description."""
    roles = [scope.value] if scope else []
    return {"auth": Token(scope), "openapi_extra": {"security": [{"Token": roles}]}}


def _wrong(device: str) -> Problem:
    """A token of nobody. One that is in force is taken from the same device all the same."""
    if limits.wrong_tokens.are_used_up(device):
        headers = {"Retry-After": str(limits.WRONG_TOKEN_SECONDS)}
        return Problem("too_many_wrong_tokens", 429, headers)
    limits.wrong_tokens.note(device)
    return Problem("token_wrong", 401, CHALLENGE)

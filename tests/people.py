"""People as the program enters them, and the browsers in which they are logged in."""

from __future__ import annotations

from django.test import Client

from app.models import User

PASSWORD = "right-lower-lobe-47"


def enter(role: str, username: str = "", password: str | None = None, **more: object) -> User:
    """A user of that role. Without a password nobody can log in, and nothing has to be hashed."""
    return User.enter(username or role, password, role, **more)


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def browser(role: str) -> Client:
    """A browser in which somebody of that role is logged in."""
    return browser_of(enter(role, f"{role}-{User.objects.count()}"))

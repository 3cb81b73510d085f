"""Signed tokens of the tests' callers."""

import time

import jwt

from tests.support.service import JWT_SECRET


def bearer(user: str, tenant: str = "default", role: str = "user", secret: str = JWT_SECRET) -> dict[str, str]:
    """Headers of a caller, good for a day: modules make them when they are collected, long before their tests run."""
    claims = {"sub": user, "tenant": tenant, "role": role, "exp": int(time.time()) + 86_400}
    return {"Authorization": f"Bearer {jwt.encode(claims, secret, 'HS256')}"}

"""Signed tokens of the tests' callers."""

import time

import jwt

from tests.support.service import JWT_SECRET


def bearer(user: str, tenant: str = "default", role: str = "user") -> dict[str, str]:
    """Headers of a caller."""
    claims = {"sub": user, "tenant": tenant, "role": role, "exp": int(time.time()) + 300}
    return {"Authorization": f"Bearer {jwt.encode(claims, JWT_SECRET, 'HS256')}"}

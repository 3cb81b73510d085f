"""Signing in to the service's own pages: to the provider, back from it, anew, and out. Only with OIDC_ISSUER."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from agent_service.api.callers import OF_PAGE
from agent_service.api.deps import ResourcesDep
from agent_service.api.json_body import JsonResponse
from agent_service.auth.sign_in import CALLBACK, PATHS, Cookie, Page, SignIn, SignInFailed
from agent_service.errors import Forbidden, IssuerUnavailable

router = APIRouter(include_in_schema=False)

PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


async def _sign_in(res: ResourcesDep) -> SignIn:
    found = res.authenticator.sign_in
    assert found is not None  # noqa: S101  # the router is there with OIDC_ISSUER only
    return found


async def _from_page(request: Request) -> None:
    if OF_PAGE not in request.headers:
        raise Forbidden(f"the header `{OF_PAGE}` is missing: only the service's own page signs in and out")


SignInDep = Annotated[SignIn, Depends(_sign_in)]
FROM_PAGE = [Depends(_from_page)]


@router.post("/auth/sign-in", dependencies=FROM_PAGE)
async def begin(request: Request, sign_in: SignInDep, page: Page = "chat") -> Response:
    """Where the page goes to sign in, and back to `page` from there."""
    url, cookies = await sign_in.begin(page, request.cookies)
    return _with_cookies(JsonResponse({"location": url}), sign_in, *cookies)


@router.get(CALLBACK)
async def callback(request: Request, sign_in: SignInDep) -> Response:
    """Where the provider sends people back to. What went wrong is a word in the page's address."""
    answer = dict(request.query_params)
    try:
        page, cookies = await sign_in.finish(answer, request.cookies)
    except SignInFailed as error:
        return _back(sign_in, "/", error.why, sign_in.forget_pending(answer.get("state", "")))
    except IssuerUnavailable:
        return _back(sign_in, "/", "unavailable", sign_in.forget_pending(answer.get("state", "")))
    return _back(sign_in, PATHS[page], None, *cookies)


@router.post("/auth/renew", dependencies=FROM_PAGE)
async def renew(request: Request, sign_in: SignInDep) -> Response:
    """204, and 401 if one has to sign in again."""
    cookie = await sign_in.renew(request.cookies)
    return _with_cookies(Response(status_code=204), sign_in, *([cookie] if cookie else []))


@router.post("/auth/sign-out", dependencies=FROM_PAGE)
async def end(request: Request, sign_in: SignInDep) -> Response:
    """Where the page goes to sign out at the provider too; null if that has no such place."""
    url, cookie = await sign_in.end(request.cookies)
    return _with_cookies(JsonResponse({"location": url}), sign_in, cookie)


def _back(sign_in: SignIn, path: str, failed: str | None, *cookies: Cookie) -> Response:
    query = f"?sign_in={failed}" if failed else ""
    return _with_cookies(RedirectResponse(f"{sign_in.base}{path}{query}", 303), sign_in, *cookies)


def _with_cookies(response: Response, sign_in: SignIn, *cookies: Cookie) -> Response:
    response.headers.update(PRIVATE)
    for each in cookies:
        response.set_cookie(
            each.name,
            each.value,
            max_age=each.max_age,
            path="/",
            secure=sign_in.secure,
            httponly=True,
            samesite=each.same_site,
        )
    return response

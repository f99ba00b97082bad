"""Auth over HTTP: the paths of Google's APIs as the SDKs call them in emulator mode, and the emulator's own.

/identitytoolkit.googleapis.com/v1/accounts:{operation}?key=      clients (web, mobile), with CORS
/identitytoolkit.googleapis.com/v1/projects/{project}/accounts... admins, with `Authorization: Bearer owner`
/securetoken.googleapis.com/v1/token?key=                         refresh, form or JSON
/emulator/v1/projects/{project}/{accounts,config,oobCodes}        tests and client developers
/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com   the public keys, as production publishes them
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from aiohttp import web

from emulator.auth import batches, profiles, sign_in
from emulator.auth.accounts import Accounts
from emulator.auth.action_codes import MODES
from emulator.auth.errors import AuthError, Fields
from emulator.auth.project import Answer, Project
from emulator.auth.tokens import TokenAuthority
from emulator.clock import Clock
from emulator.persistence import Store
from emulator.web import RunningServer, serve

_IDENTITY = "/identitytoolkit.googleapis.com/v1"
_JWKS = "/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
_BODY_BYTES_MAX = 16 * 1024 * 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Operation = Callable[[Project, Fields], Answer]

_CLIENT_OPERATIONS: dict[str, _Operation] = {
    "signUp": sign_in.sign_up,
    "signInWithPassword": sign_in.sign_in_with_password,
    "signInWithCustomToken": sign_in.sign_in_with_custom_token,
    "signInWithEmailLink": sign_in.sign_in_with_email_link,
    "signInWithIdp": sign_in.sign_in_with_idp,
    "createAuthUri": sign_in.create_auth_uri,
    "resetPassword": profiles.reset_password,
    "lookup": lambda project, fields: profiles.lookup(project, fields, privileged=False),
    "update": lambda project, fields: profiles.update(project, fields, privileged=False),
    "delete": lambda project, fields: profiles.delete(project, fields, privileged=False),
}
_ADMIN_OPERATIONS: dict[str, _Operation] = {
    "lookup": lambda project, fields: profiles.lookup(project, fields, privileged=True),
    "update": lambda project, fields: profiles.update(project, fields, privileged=True),
    "delete": lambda project, fields: profiles.delete(project, fields, privileged=True),
    "batchCreate": batches.batch_create,
    "batchDelete": batches.batch_delete,
}


class AuthServer:
    """The embedded Auth of one project. `tokens` verifies ID tokens for the other services."""

    def __init__(self, *, project_id: str, clock: Clock, store: Store) -> None:
        self.accounts = Accounts(store)
        self.tokens = TokenAuthority(project_id=project_id, clock=clock, store=store, accounts=self.accounts)
        self._project = Project(project_id=project_id, clock=clock, accounts=self.accounts, tokens=self.tokens)
        self._server: RunningServer | None = None

    async def start(self, host: str, port: int) -> RunningServer:
        """Binds and serves. Raises OSError if the port is taken."""
        self._server = await serve(self._application(), host, port)
        return self._server

    async def stop(self) -> None:
        """Closes the port; does nothing if it is not open."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_answer_errors, _allow_browsers], client_max_size=_BODY_BYTES_MAX)
        emulator = "/emulator/v1/projects/{project}"
        admin = _IDENTITY + "/projects/{project}"
        app.add_routes(
            [
                web.post(_IDENTITY + "/accounts:sendOobCode", self._client_send_oob_code),
                web.post(_IDENTITY + "/accounts:{operation}", self._client_operation),
                web.get(_IDENTITY + "/projects", self._client_project),
                web.post("/securetoken.googleapis.com/v1/token", self._refresh),
                web.post(admin + "/accounts", self._admin_create),
                web.get(admin + "/accounts:batchGet", self._admin_list),
                web.post(admin + "/accounts:sendOobCode", self._admin_send_oob_code),
                web.post(admin + "/accounts:{operation}", self._admin_operation),
                web.post(admin + ":createSessionCookie", self._admin_session_cookie),
                web.delete(emulator + "/accounts", self._delete_all),
                web.get(emulator + "/config", self._config),
                web.patch(emulator + "/config", self._change_config),
                web.get(emulator + "/oobCodes", self._open_codes),
                web.get("/emulator/action", self._follow_link),
                web.get(_JWKS, self._jwks),
                web.get("/", self._about),
            ]
        )
        return app

    async def _client_operation(self, request: web.Request) -> web.Response:
        fields = await self._client_fields(request)
        operation = _CLIENT_OPERATIONS.get(request.match_info["operation"])
        if operation is None:
            raise _unknown_path(request)
        return web.json_response(operation(self._project, fields))

    async def _client_send_oob_code(self, request: web.Request) -> web.Response:
        fields = await self._client_fields(request)
        base_url = _base_url(request)
        return web.json_response(profiles.send_oob_code(self._project, fields, privileged=False, base_url=base_url))

    async def _client_project(self, request: web.Request) -> web.Response:
        _require_key(request)
        return web.json_response({"projectId": self._project.project_id, "authorizedDomains": ["localhost"]})

    async def _refresh(self, request: web.Request) -> web.Response:
        _require_key(request)
        if request.content_type == "application/x-www-form-urlencoded":
            form = parse_qs((await request.read()).decode(errors="replace"))
            body: dict[str, Any] = {name: values[-1] for name, values in form.items()}
        else:
            body = await _json_body(request)
        # The JSON form of the API also takes the names in camel case.
        renamed = {"grantType": "grant_type", "refreshToken": "refresh_token"}
        fields = Fields({renamed.get(name, name): value for name, value in body.items()})
        return web.json_response(sign_in.refresh(self._project, fields))

    async def _client_fields(self, request: web.Request) -> Fields:
        _require_key(request)
        return Fields(await _json_body(request))

    async def _admin_create(self, request: web.Request) -> web.Response:
        self._require_owner(request)
        return web.json_response(sign_in.create_account(self._project, Fields(await _json_body(request))))

    async def _admin_list(self, request: web.Request) -> web.Response:
        self._require_owner(request)
        return web.json_response(batches.batch_get(self._project, Fields(request.query)))

    async def _admin_operation(self, request: web.Request) -> web.Response:
        self._require_owner(request)
        operation = _ADMIN_OPERATIONS.get(request.match_info["operation"])
        if operation is None:
            raise _unknown_path(request)
        return web.json_response(operation(self._project, Fields(await _json_body(request))))

    async def _admin_send_oob_code(self, request: web.Request) -> web.Response:
        self._require_owner(request)
        fields = Fields(await _json_body(request))
        base_url = _base_url(request)
        return web.json_response(profiles.send_oob_code(self._project, fields, privileged=True, base_url=base_url))

    async def _admin_session_cookie(self, request: web.Request) -> web.Response:
        self._require_owner(request)
        return web.json_response(profiles.create_session_cookie(self._project, Fields(await _json_body(request))))

    async def _delete_all(self, request: web.Request) -> web.Response:
        self._require_project(request)
        self.accounts.clear()
        self._project.codes.forget_all()
        return web.json_response({})

    async def _config(self, request: web.Request) -> web.Response:
        self._require_project(request)
        return web.json_response(self._config_json())

    async def _change_config(self, request: web.Request) -> web.Response:
        self._require_project(request)
        fields = Fields(await _json_body(request))
        sign_in_settings, privacy = fields.object("signIn"), fields.object("emailPrivacyConfig")
        if sign_in_settings and sign_in_settings.flag("allowDuplicateEmails"):
            raise AuthError("INVALID_CONFIG : The embedded Auth keeps one account for each address.")
        lifetime_s = fields.integer("idTokenLifetimeSeconds")
        private = privacy.flag("enableImprovedEmailPrivacy") if privacy else None
        if private is not None:
            self._project.settings.improved_email_privacy = private
        if lifetime_s is not None:
            self.tokens.id_token_lifetime_seconds = lifetime_s
        return web.json_response(self._config_json())

    def _config_json(self) -> Answer:
        return {
            "signIn": {"allowDuplicateEmails": False},
            "emailPrivacyConfig": {"enableImprovedEmailPrivacy": self._project.settings.improved_email_privacy},
            "idTokenLifetimeSeconds": self.tokens.id_token_lifetime_seconds,
        }

    async def _open_codes(self, request: web.Request) -> web.Response:
        self._require_project(request)
        return web.json_response({"oobCodes": self._project.codes.open_codes()})

    async def _follow_link(self, request: web.Request) -> web.Response:
        """What the page behind a link of an e-mail would do; a password reset needs &newPassword= added."""
        mode, code = request.query.get("mode", ""), request.query.get("oobCode", "")
        if mode not in MODES:
            raise AuthError("INVALID_MODE")
        continue_url = request.query.get("continueUrl")
        if mode == "signIn":
            if not continue_url:
                raise AuthError("MISSING_CONTINUE_URI")
            raise web.HTTPFound(_with_query(continue_url, request.query_string))
        if mode == "resetPassword":
            fields = Fields({"oobCode": code, "newPassword": request.query.get("newPassword")})
            if not fields.has("newPassword"):
                raise AuthError("MISSING_PASSWORD : Add &newPassword=... to the link.")
            answer = profiles.reset_password(self._project, fields)
        else:
            answer = profiles.update(self._project, Fields({"oobCode": code}), privileged=False)
        if continue_url:
            raise web.HTTPFound(continue_url)
        return web.json_response({"done": mode, "email": answer.get("email")})

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response(self.tokens.jwks(), headers={"Cache-Control": "public, max-age=60"})

    async def _about(self, _request: web.Request) -> web.Response:
        about = {"ready": True, "docs": "The embedded Firebase Authentication", "project": self._project.project_id}
        return web.json_response({"authEmulator": about})

    def _require_project(self, request: web.Request) -> None:
        if request.match_info["project"] != self._project.project_id:
            raise AuthError(f"CONFIGURATION_NOT_FOUND : This is project {self._project.project_id}.", status=404)

    def _require_owner(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AuthError("UNAUTHENTICATED : Admin calls need `Authorization: Bearer owner`.", status=401)
        if token != "owner":  # noqa: S105 (a fixed word of the emulators, not a secret)
            raise AuthError("INSUFFICIENT_PERMISSION : Only `Bearer owner` is an admin here.", status=403)
        self._require_project(request)


def _require_key(request: web.Request) -> None:
    if not (request.query.get("key") or request.headers.get("X-Goog-Api-Key")):
        raise AuthError("PERMISSION_DENIED : The request is missing a valid API key.", status=403)


async def _json_body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        body = json.loads(raw) if raw.strip() else {}
    except ValueError as error:
        raise AuthError("INVALID_ARGUMENT : Invalid JSON payload received.") from error
    if not isinstance(body, dict):
        raise AuthError("INVALID_ARGUMENT : The payload must be a JSON object.")
    return body


def _base_url(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _with_query(url: str, query: str) -> str:
    parts = urlsplit(url)
    added = {name: values[-1] for name, values in parse_qs(query).items() if name != "continueUrl"}
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(added))))))


def _unknown_path(request: web.Request) -> AuthError:
    return AuthError(f"NOT_FOUND : {request.method} {request.path} is not served by the embedded Auth.", status=404)


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except AuthError as error:
        answer = web.json_response(error.body(), status=error.status)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        answer = web.json_response(_unknown_path(request).body(), status=404)
    answer.headers["Access-Control-Allow-Origin"] = "*"
    return answer


@web.middleware
async def _allow_browsers(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """CORS for any origin: web clients run on other ports than this server."""
    if request.method == "OPTIONS":
        preflight = {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE, OPTIONS",
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*"),
            "Access-Control-Max-Age": "3600",
        }
        return web.Response(status=204, headers=preflight)
    response = await handler(request)
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response

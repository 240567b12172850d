"""Every refusal that a caller can see: one code, one status, whether a client should try again, in one place.

HeadwayError
├── ConfigError                what the operator wrote; carries file, line and the nearest right key
└── CallError                  what a caller of the data plane gets, rendered in its own dialect
    ├── BadRequest             400  the body or a header cannot be used
    │   └── MethodNotAllowed   405  a known path that takes other methods
    ├── Unauthorized           401
    ├── Forbidden              403
    ├── UnknownModel           404  lists near names
    ├── NotFound               404
    ├── Conflict               409  a call of the same name runs, or its answer is not kept
    ├── TooLarge               413
    ├── CannotCarry            422  a strict feature, and the target's dialect lacks something
    ├── BudgetExhausted        429  never retried: ``x-should-retry: false``
    ├── RateLimited            429
    ├── Overloaded             503
    ├── DeadlineExceeded       504
    ├── UpstreamFailed         502  the provider refused, broke off or could not be reached
    └── Draining               503
"""

from typing import ClassVar


class HeadwayError(Exception):
    """Base of all errors that Headway raises on purpose."""


class ConfigError(HeadwayError):
    """The configuration cannot be used. ``str()`` is the whole story: place, what, why, what to do."""

    def __init__(self, problem: str, *, where: str = "", fix: str = "") -> None:
        self.problem, self.where, self.fix = problem, where, fix
        super().__init__(": ".join(p for p in (where, problem) if p) + (f" ({fix})" if fix else ""))


class CallError(HeadwayError):
    """A refusal or failure of one call.

    ``code`` is stable and safe as a metric label; ``message`` is for people and holds nothing secret; ``retry_after_ms``
    becomes ``retry-after`` and ``retry-after-ms``; ``should_retry`` becomes ``x-should-retry``.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    openai_type: ClassVar[str] = "server_error"
    anthropic_type: ClassVar[str] = "api_error"
    retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_ms: int | None = None,
        should_retry: bool | None = None,
        status: int | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_ms = retry_after_ms
        self.should_retry = self.retry if should_retry is None else should_retry
        self.http_status = status or self.status
        self.reason = code or self.code


class BadRequest(CallError):
    code = "bad_request"
    status = 400
    openai_type = "invalid_request_error"
    anthropic_type = "invalid_request_error"


class MethodNotAllowed(BadRequest):
    """A known path that takes other methods: 405 with ``Allow``."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, path: str, allow: tuple[str, ...]) -> None:
        super().__init__(f"{path} takes {', '.join(allow)}")
        self.allow = ", ".join(allow)


class Unauthorized(CallError):
    code = "unauthorized"
    status = 401
    openai_type = "invalid_request_error"
    anthropic_type = "authentication_error"


class Forbidden(CallError):
    code = "forbidden"
    status = 403
    openai_type = "invalid_request_error"
    anthropic_type = "permission_error"


class NotFound(CallError):
    code = "not_found"
    status = 404
    openai_type = "invalid_request_error"
    anthropic_type = "not_found_error"


class UnknownModel(NotFound):
    code = "model_not_found"


class Conflict(CallError):
    code = "conflict"
    status = 409
    openai_type = "invalid_request_error"
    anthropic_type = "invalid_request_error"


class TooLarge(CallError):
    code = "too_large"
    status = 413
    openai_type = "invalid_request_error"
    anthropic_type = "request_too_large"


class CannotCarry(CallError):
    code = "cannot_carry"
    status = 422
    openai_type = "invalid_request_error"
    anthropic_type = "invalid_request_error"


class BudgetExhausted(CallError):
    code = "budget_exhausted"
    status = 429
    openai_type = "insufficient_quota"
    anthropic_type = "rate_limit_error"


class RateLimited(CallError):
    code = "rate_limited"
    status = 429
    openai_type = "rate_limit_error"
    anthropic_type = "rate_limit_error"
    retry = True


class Overloaded(CallError):
    code = "overloaded"
    status = 503
    openai_type = "server_error"
    anthropic_type = "overloaded_error"
    retry = True


class Draining(Overloaded):
    code = "draining"


class DeadlineExceeded(CallError):
    code = "deadline_exceeded"
    status = 504
    openai_type = "server_error"
    anthropic_type = "api_error"


class UpstreamFailed(CallError):
    code = "upstream_failed"
    status = 502
    openai_type = "server_error"
    anthropic_type = "api_error"

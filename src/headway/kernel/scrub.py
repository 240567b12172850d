"""Blank what looks like a credential. The last line of defence for logs, error texts and recordings, not the first.

Patterns are linear: no repetition inside a repetition, so that a hostile text costs its length and no more.
"""

import re

BLANK = "[redacted]"

_OURS = re.compile(r"\b(hw_[0-9a-z]{26})_[0-9A-Za-z_\-]+")
_OUR_TOKENS = re.compile(r"\bhw[a-z]{1,2}_[0-9A-Za-z_\-]{16,}")  # login links, sessions
_KNOWN = re.compile(
    r"""
    \b(?=[srpAghnxe])(?:                            # one of the first letters below: quick to say no
        (?:sk|rk|pk)[\-_][0-9A-Za-z_\-]{8,}         # OpenAI, Anthropic, OpenRouter, Stripe and those who copied the form
      | AIza[0-9A-Za-z_\-]{30,}                     # Google
      | (?:AKIA|ASIA)[0-9A-Z]{16}\b                 # AWS
      | gh[pousr]_[0-9A-Za-z]{20,}                  # GitHub
      | github_pat_[0-9A-Za-z_]{20,}
      | glpat-[0-9A-Za-z_\-]{16,}                   # GitLab
      | (?:hf|gsk|xai|nvapi|r8|pplx)[_\-][0-9A-Za-z_\-]{20,}
      | xox[abeprs]-[0-9A-Za-z\-]{10,}              # Slack
      | eyJ[0-9A-Za-z_\-]{10,}\.[0-9A-Za-z_\-]{10,}(?:\.[0-9A-Za-z_\-]+)?   # JSON web tokens
    )
    """,
    re.VERBOSE,
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,8000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?")
_SCHEME = re.compile(r"\b(bearer|basic)(\s{1,4})([0-9a-z._~+/=\-]{8,})", re.IGNORECASE)
_NAMED = re.compile(
    r"""
    (?=[aprs])((?:api|access)[_\-]?key|authorization|password|passwd|secret(?:[_\-]?key)?|(?:auth|access|refresh)[_\-]?token)
    (["']?\s{0,4}[:=]\s{0,4}["']?)
    ([^\s"',;&\[\]{}]{4,})
    """,
    re.VERBOSE | re.IGNORECASE,
)
_USERINFO = re.compile(r"(://[^\s/:@]{1,200}:)[^\s/@]{1,200}@")


def scrub(text: str) -> str:
    """``text`` with keys, tokens, passwords and the like blanked. The id of one of our keys stays: it is not secret and says which key it was."""
    text = _OURS.sub(rf"\1_{BLANK}", text)
    text = _OUR_TOKENS.sub(BLANK, text)
    text = _KNOWN.sub(BLANK, text)
    text = _PRIVATE_KEY.sub(BLANK, text)
    text = _SCHEME.sub(rf"\1\2{BLANK}", text)
    text = _NAMED.sub(_named, text)
    return _USERINFO.sub(rf"\1{BLANK}@", text)


def _named(found: "re.Match[str]") -> str:
    name, between, value = found.groups()
    if value.lower() in ("bearer", "basic"):  # the scheme; its value was blanked before
        return found.group(0)
    return f"{name}{between}{BLANK}"

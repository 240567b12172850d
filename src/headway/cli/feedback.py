"""``headway feedback``: what became of an answer, sent to the gateway as a client would."""

import http.client
import json
import os
from urllib.parse import urlsplit

import click

from headway.cli.client import TIMEOUT_S
from headway.cli.common import config_option, emit, json_option, loaded
from headway.cli.trouble import MISSING, Trouble
from headway.config.addresses import reach
from headway.facts.model import FEEDBACK_KINDS


@click.command("feedback")
@click.argument("call")
@click.argument("kind", type=click.Choice(FEEDBACK_KINDS))
@click.option("--note", default="", help="A few words.")
@config_option
@json_option
def command(call: str, kind: str, note: str, config_path: str | None, as_json: bool) -> None:
    """Say what became of the answer of CALL.

    Uses the key in HEADWAY_KEY; without one only where the configuration has open_access.
    """
    url = os.environ.get("HEADWAY_URL", "").rstrip("/") or reach(loaded(config_path).settings.gateway.listen)
    parts = urlsplit(url)
    kind_of = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind_of(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    headers = {"content-type": "application/json"}
    if key := os.environ.get("HEADWAY_KEY", ""):
        headers["authorization"] = f"Bearer {key}"
    body = json.dumps({"call": call, "kind": kind, **({"note": note} if note else {})})
    try:
        connection.request("POST", parts.path + "/v1/headway/feedback", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read() or b"{}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Trouble(f"the gateway does not answer at {url}", str(error), "headway serve starts it", MISSING) from None
    finally:
        connection.close()
    if response.status >= 400:
        message = str(answer.get("error", {}).get("message", response.reason))
        fix = "set HEADWAY_KEY to a key of the call's tenant" if response.status in (401, 403) else "headway calls show CALL"
        raise Trouble(message, f"the gateway answered {response.status}", fix)
    if as_json:
        emit(answer)
    else:
        click.echo(f"{call}: {kind} noted")

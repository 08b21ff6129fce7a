"""
The assumptions that calls can check, by their ids on the page "Fidelity".

Rule: an assumption states if it needs a write, a login or an event that may not occur. Then the report can
say why it was not tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Needs = Literal["", "write", "429", "login"]

WHY_NOT = {
    "": "the calls before it did not get that far",
    "write": "needs --extended-id, --field and --value",
    "429": "no call was throttled, and this command does not provoke it",
    "login": "only with the auth_scheme login",
}


@dataclass(frozen=True)
class Assumption:
    """
    One line of the page.

    :param needs: What is needed to try it.
    """

    says: str
    needs: Needs = ""


def _write(says: str) -> Assumption:
    return Assumption(says, "write")


ASSUMPTIONS: dict[str, Assumption] = {
    "me-path": Assumption("GET /api/v2/me/ tells whether access works"),
    "me-answer": Assumption("its answer has id and email at the top level"),
    "unauthenticated": Assumption("a call without a token: 401"),
    "www-authenticate": Assumption("a 401 carries WWW-Authenticate"),
    "jwt-others": Assumption("a login leaves earlier JWTs of the user valid", "login"),
    "slash": Assumption("a path without its last slash: 301 to the one with it, the query kept"),
    "accept": Assumption("Accept is ignored: answers are JSON"),
    "head": Assumption("HEAD is answered as GET, without a body"),
    "options": Assumption("OPTIONS: 200"),
    "unknown-path": Assumption("an unknown path: 404 with JSON"),
    "upload-path": Assumption("POST /api/v2/scm/upload/ is the synchronous upload"),
    "submit-path": Assumption("POST /api/v2/scm/upload/async/ submits a job"),
    "method": Assumption("a wrong method: 405"),
    "json": Assumption("malformed JSON: 400"),
    "media-type": Assumption("a body that is not application/json: 415"),
    "no-items": Assumption("an upload without items: 400"),
    "error-body": Assumption('a 400 is {"field": ["message", …]} or {"detail": "…"}'),
    "task-unknown": Assumption("an unknown task_id: 404"),
    "upload-answer": _write("an upload answers total_updates, changes, items, codes_affected"),
    "items-fields": _write("items lists the names of the updated fields for each key"),
    "changes": _write("changes is empty"),
    "key-default": _write("extended_id is the data_key when none is given"),
    "same-value": _write("a value that the code already has counts as updated"),
    "code-once": _write("a code that several items touch counts once"),
    "items-unmatched": _write("a key that matched nothing is not in items"),
    "key-any": _write("an SCM field may be the data_key"),
    "key-unknown": _write("a data_key that is no field: 400"),
    "field-unknown": _write("a field that the campaign lacks is discarded silently"),
    "all-discarded": _write("a key of which all fields were discarded is in items, with no fields"),
    "null": _write("a null in a field of the campaign: 400"),
    "null-discarded": _write("a null in a field that the campaign lacks is discarded"),
    "dates": _write("a date such as 01/12/2016 is accepted"),
    "clear": _write('"" is accepted'),
    "numbers-sync": _write("a number in an item is accepted"),
    "numbers-async": _write("a number in scm_data is accepted"),
    "product-unknown": _write("a product that does not exist: 400"),
    "special-values": _write("activation_status 9: 400"),
    "submit-answer": _write("a submit answers with task_id"),
    "task-path": _write("GET /api/v2/scm/tasks/<task_id>/ is the status"),
    "task-path-client": _write("GET /api/v2/scm/tasks//<task_id> leads to it"),
    "task-fields": _write("the status has all eight fields"),
    "task-keys": _write("its keys are in snake case"),
    "task-states": _write("states are pending, in-progress, complete, failed"),
    "task-codes": _write("codes_affected of a job is a number"),
    "task-codes-null": _write("codes_affected is null while a job is open"),
    "task-created-by": _write("created_by is a number"),
    "task-times": _write("times are ISO 8601 with a Z"),
    "constraints-all": _write("a code must meet all constraints"),
    "ids-list": _write("a list of extended_ids is accepted"),
    "other-list": _write("a list in another constraint: 400"),
    "retry-after": Assumption("a 429 carries Retry-After, in seconds", "429"),
    "throttle-body": Assumption("the body of a 429 names the seconds to wait", "429"),
}

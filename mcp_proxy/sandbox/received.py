"""What a host saw of one request, and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp_proxy.sandbox.wire import Heard

if TYPE_CHECKING:
    from mcp_proxy.sandbox.accounts import Account


@dataclass(slots=True, eq=False)
class Received:
    """One request. What became of it is filled in as it happens.

    at            when it had come whole, by the sandbox's clock
    account       whose key it carried; None: nobody's
    wrong         why it was refused as malformed or ill-mannered; None: it was in order
    fault         the name of the fault it met; None: it was answered honestly
    answered      the status that left; None: none has
    done          whether the steps of the answer were all done
    sent          bytes of answer that left
    closed_after  seconds from `at` to the client's close; None: it did not close while being answered
    """

    host: str
    heard: Heard
    at: float
    account: Account | None = None
    wrong: str | None = None
    fault: str | None = None
    answered: int | None = None
    done: bool = False
    sent: int = 0
    closed_after: float | None = None

    @property
    def method(self) -> str:
        return self.heard.method

    @property
    def target(self) -> str:
        return self.heard.target

    @property
    def path(self) -> str:
        return self.heard.target.partition("?")[0]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """In order, names in the case they were written in."""
        return self.heard.headers

    @property
    def body(self) -> bytes:
        return self.heard.body

    @property
    def json(self) -> Any:
        return json.loads(self.heard.body)

    @property
    def model(self) -> str | None:
        """The model asked for; None where the body names none."""
        try:
            return str(self.json["model"])
        except (ValueError, TypeError, KeyError):
            return None

    def header(self, name: str) -> str | None:
        """The first value of `name`, whatever the case."""
        return self.heard.value(name.lower())

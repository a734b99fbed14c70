"""
What one reader may ask of the server: how long a body is, and how many texts an address gets in a minute.

Whatever is refused is an HTTPException whose detail says so in words.
"""

import asyncio
import ipaddress
import json
import math
import time

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

BODY_BYTES = 64 * 1024
PASSED_OVER = 4 * 1024 * 1024  # of a body too long, read all the same, so that its sender comes to read the answer
BODY_SECONDS = 20    # within which a body must have arrived
_ADDRESSES = 10_000  # that are remembered at most, but for those that have taken something


def refusal(status, words, **headers):
    """What is raised for a request that is not answered."""
    return HTTPException(status, words, {name.replace("_", "-"): value for name, value in headers.items()})


async def json_body(request):
    """The JSON object in the body of a request; one far too long is not read to its end."""
    try:
        body = await asyncio.wait_for(_body(request), BODY_SECONDS)
    except TimeoutError:
        raise refusal(408, f"The body of this request did not arrive within {BODY_SECONDS} seconds.",
                      connection="close") from None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError, too
        raise refusal(400, f"The body of this request is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise refusal(400, f"Expected a JSON object; found {type(found).__name__}.")
    return found


async def _body(request):
    too_long = refusal(413, f"The body of this request is longer than {BODY_BYTES:,} bytes.", connection="close")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > PASSED_OVER:
        raise too_long
    body, length = b"", 0
    try:
        async for part in request.stream():
            length += len(part)
            body = body + part if length <= BODY_BYTES else b""
            if length > PASSED_OVER:
                raise too_long
    except ClientDisconnect:
        raise refusal(400, "The body of this request is not complete.") from None
    if length > BODY_BYTES:
        raise too_long
    return body


class Rate:
    """Texts for each address, as many a minute as given, in any order: what was not used is kept for a minute. None
    allows any number."""

    def __init__(self, a_minute):
        self.a_minute, self.taken = a_minute, {}  # by address: how many, as of when

    def take(self, address, n):
        """Take n texts for an address, or refuse them."""
        if self.a_minute is None:
            return
        now, address = time.monotonic(), _network(address)
        if len(self.taken) >= _ADDRESSES:
            self.taken = {key: pair for key, pair in self.taken.items() if self.left_of(pair, now)}
        taken = self.left_of(self.taken.get(address, (0, now)), now)
        if taken + n > self.a_minute:
            wait = math.ceil((taken + n - self.a_minute) * 60 / self.a_minute)
            raise refusal(429, f"{self.a_minute} texts a minute are written for one address. Try again in {wait} "
                               "seconds.", retry_after=str(wait))
        self.taken[address] = taken + n, now

    def left_of(self, pair, now):
        """How many of the texts that were taken still count."""
        count, when = pair
        return max(0.0, count - (now - when) * self.a_minute / 60)


def _network(address):
    """An address, or the network of an IPv6 address: whoever has one, has 2**64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))

"""
The addresses of the server: the page, what it needs to know, and the texts as events while they are written.

    POST /write   {"ending": "…", "temp": 0.8, "n": 4, "seed": 7}   begin, place, text, end, error
    POST /ask     {"response": "…"}                                 begin, place, questions, error

Settings have the names that they have at the prompt, in the page's links as well.
"""

import base64
import functools
import hashlib
import re
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from backchat.candidates import weigh
from backchat.template import encode_response, instruction_room, writing_room
from sampling.controls import KNOBS
from web import completions
from web.growing import Growth
from web.limits import json_body, refusal
from web.streams import Stream, event
from web.writing import seeds_of

PAGE = Path(__file__).with_name("page.html")
STILL_HERE = 15.0  # seconds after which a reader who waits is sent a sign of life
QUESTIONS = 4      # that are written for a response


# ---- texts as events


async def with_places(job, news):
    """The events of a job: its seeds, its place in the line while it waits, and news(), a list, at every change."""
    place = 0
    yield event("begin", seeds=[text.seed for text in job.texts])
    try:
        async for _ in job.changes(STILL_HERE):
            events = news()
            if job.place and job.place != place:
                events.append(event("place", place=job.place))
            place = job.place
            yield "".join(events) or ": still here\n\n"
    except Exception as error:
        if error is not job.error:
            raise
        yield event("error", error=str(error))  # of the thread that writes


async def write(served, request):
    asked = await json_body(request)
    ending = served.checked(asked.pop("ending", None), "ending")
    controls, prompt = served.controls_of(asked), served.tokenizer.encode_ending(ending)
    seeds = seeds_of(controls.seed, controls.num_samples)
    job = served.begin(served.writer, request, [(prompt, seed) for seed in seeds], controls.tokens, controls.filters())
    growths, done = [Growth(served.tokenizer, prompt, ending) for _ in job.texts], [None] * len(job.texts)

    def news():
        events = []
        for i, (text, growth) in enumerate(zip(job.texts, growths)):
            ended, ids = text.ended, text.ids[:]  # in this order: the thread that writes goes on meanwhile
            if done[i] == (len(ids), ended):
                continue
            done[i], whole = (len(ids), ended), ended == "stop"
            new = growth.rest(ids) if whole else growth.more(ids)
            if ended and not growth.shown:  # of a text that is cut, the newest word may be a half: it is shown if alone
                new = growth.rest(ids)
            if new:
                events.append(event("text", sample=i, text=new))
            if ended:
                events.append(event("end", sample=i, whole=whole))
                served.keep(served.writer, controls, given=ending, text=growth.joined(ending), whole=whole,
                            seed=text.seed)
        return events

    return Stream(job, with_places(job, news))


async def ask(served, request):
    if served.chat is None:
        raise refusal(404, "There is no model here that writes questions.")
    writer, tokenizer = served.chat
    asked = await json_body(request)
    response = served.checked(asked.pop("response", None), "response")
    controls = replace(served.controls_of(asked), num_samples=QUESTIONS)
    block_size = writer.decoder.config.block_size
    prompt, _ = encode_response(tokenizer, response, writing_room(block_size, controls.tokens))
    limit = instruction_room(block_size, controls.tokens, prompt)
    starts = [(prompt, seed) for seed in seeds_of(controls.seed, QUESTIONS)]

    def finish(job):
        return weigh(writer.decoder, tokenizer, [prompt], [[text.ids for text in job.texts]])[0]

    def news():
        if job.result is None:
            return []
        for found in job.result[:1]:
            served.keep(writer, controls, response=response, instruction=found.instruction, seed=controls.seed)
        return [event("questions", questions=[{"question": found.instruction, "count": found.count}
                                              for found in job.result])]

    job = served.begin(writer, request, starts, limit, controls.filters(), finish)
    return Stream(job, with_places(job, news))


# ---- the rest


def page():
    """The page, and the headers that keep everything out that does not stand in it."""
    html = PAGE.read_text(encoding="utf-8")

    def sources(tag):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
                        for part in found)

    policy = (f"default-src 'none'; script-src {sources('script')}; style-src {sources('style')}; connect-src 'self'; "
              "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    return html, {"content-security-policy": policy, "x-content-type-options": "nosniff",
                  "referrer-policy": "no-referrer", "cache-control": "no-cache"}


def about(served):
    """What the page has to know."""
    controls = {k.command: getattr(served.controls, name) for name, k in KNOBS.items()}
    return {"direction": served.direction, "chat": served.chat is not None, "kiosk": served.kiosk,
            "controls": controls, "speed": served.speed, "longest": served.longest, "most_tokens": served.most_tokens}


async def refused(request, error):
    """A refusal in words; for programs, in their form."""
    words = {404: "There is nothing at this address.",
             405: f"This address does not take {request.method}."}.get(error.status_code, "")
    words = words if error.detail in ("Not Found", "Method Not Allowed") else error.detail
    if request.url.path.startswith("/v1/"):
        return JSONResponse(completions.error(words, error.status_code), error.status_code, error.headers)
    return PlainTextResponse(words + "\n", error.status_code, error.headers)


def make_app(served):
    """The ASGI application."""
    html, headers = page()

    async def show(request):
        if request.url.path == "/chat" and served.chat is None:
            raise refusal(404, "There is no model here that writes questions.")
        return Response(html, media_type="text/html", headers=headers)

    async def tell(request):
        return JSONResponse(about(served), headers={"cache-control": "no-store"})

    async def health(request):
        return JSONResponse({"writing": sum(len(writer.texts) for writer in served.writers),
                             "waiting": sum(len(writer.waiting) for writer in served.writers)})

    def of(endpoint):
        return functools.partial(endpoint, served)

    routes = [Route("/", show), Route("/chat", show), Route("/about", tell), Route("/health", health),
              Route("/write", of(write), methods=["POST"]), Route("/ask", of(ask), methods=["POST"]),
              Route("/v1/models", of(completions.models)),
              Route("/v1/completions", of(completions.complete), methods=["POST"])]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused})

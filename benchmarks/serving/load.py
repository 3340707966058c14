"""One load against one service: `python -m benchmarks.serving.load --workload vectors-adapt --callers 64 --seconds 10`.

Against a service of its own (with an API key, as a server that is not for one person alone), or the one at ``--url``,
which must run on this machine for its processes to be found.
"""

import argparse
import json
import os
import secrets
from contextlib import nullcontext

import uvloop

from benchmarks.own_service import own_service
from benchmarks.serving.connection import connect
from benchmarks.serving.measuring import Load, Requests, closed_loop, open_loop
from benchmarks.serving.mixed import mixed
from benchmarks.serving.workloads import ADAPT, adapt_json, predict_json

WORKLOADS = (*ADAPT, "predict", "mixed")


async def adapted(url: str, key: str | None) -> str:
    """The id of a `vectors` model adapted just now."""
    connection = await connect(url)
    answer = await connection.ask(adapt_json(key=key)(secrets.randbelow(10**9)))
    connection.close()
    if answer.status != 201:
        raise RuntimeError(f"/adapt answered {answer.status}: {answer.body[:500]!r}")
    return str(json.loads(answer.body)["id"])


async def requests_of(workload: str, url: str, key: str | None, start: int = 0) -> Requests:
    """The requests of a workload, numbered from ``start``; what must be there before them is made."""
    if workload == "mixed":
        requests = await mixed(url, key)
    elif workload == "predict":
        requests = predict_json(await adapted(url, key), key=key)
    else:
        requests = ADAPT[workload](key)
    return lambda number: requests(start + number)


async def run(url: str, key: str | None, given: argparse.Namespace) -> Load:
    """The load that the command line asks for. Numbers begin anywhere, so that a second run says nothing twice."""
    requests = await requests_of(given.workload, url, key, secrets.randbelow(2**23))
    if given.rate:
        return await open_loop(url, requests, given.rate, given.seconds)
    return await closed_loop(url, requests, given.callers, given.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.load", description=__doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default="vectors-adapt")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--rate", type=float, help="open loop at this many requests a second, instead of callers")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--url", help="a running service; KSHOT_ADMIN_KEY is sent where it is set")
    given = parser.parse_args()
    key = os.environ.get("KSHOT_ADMIN_KEY")
    if given.url is None:
        key = key or secrets.token_hex(32)
    with nullcontext(given.url) if given.url else own_service(KSHOT_ADMIN_KEY=key or "") as url:
        print(f"{given.workload}: {uvloop.run(run(url, key, given)).line()}")


if __name__ == "__main__":
    main()

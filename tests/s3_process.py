"""Moto as an S3 server: python s3_process.py PORT DIES_AT, in the environment that has it.

It checks signatures and policies. With DIES_AT above 0 it is gone when it should answer that PUT.
"""

import os
import sys
from typing import Any

from moto.server import main  # type: ignore[import-not-found]
from werkzeug.serving import WSGIRequestHandler

PORT, DIES_AT = sys.argv[1], int(sys.argv[2])
say = WSGIRequestHandler.log_request
puts = 0


def count(self: WSGIRequestHandler, *arguments: Any) -> None:
    global puts  # noqa: PLW0603 - a process, a count
    puts += self.command == "PUT"
    if DIES_AT and puts >= DIES_AT:
        os._exit(9)
    say(self, *arguments)


WSGIRequestHandler.log_request = count  # type: ignore[method-assign]
main(["--host", "127.0.0.1", "--port", PORT])

"""Sealed results on their way into an S3 bucket: DONE last, so whoever sees it there has all of them.

Keys, region and endpoint come from the environment alone, under AWS's own names: AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, or a workload's identity (AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN); AWS_REGION;
AWS_ENDPOINT_URL_S3. All that is ever asked of the bucket is to put objects.
"""

import importlib.util
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tokenswarm import EXIT_NOT_STARTED, EXIT_USAGE, ROOT, TokenswarmError, sealing

if TYPE_CHECKING:
    from obstore.store import S3Store

PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([\w.=+-]+(?:/[\w.=+-]+)*)/?", re.ASCII)
CLAIM_S, UPLOAD_S = 10, 60  # how long a request may take, and how long a failed one is tried again
AT_ONCE = 4  # parts of a large file: more would need a faster link to be there within UPLOAD_S

CAUSE = re.compile(
    r'\bmessage: "(.*?)"|(No CA certificates[^"]*)|InvalidCertificate\(\s*(\w+)|\b(TimedOut)\b'
)  # where a message of obstore's, below its first line, says more than that does


class Destination:
    """A prefix in a bucket that one run's results go to."""

    def __init__(self, text: str) -> None:
        """Read s3://BUCKET/PREFIX; raises TokenswarmError, also where the extra `s3` is not installed."""
        found = PLACE.fullmatch(text)
        if not found or {".", ".."} & set(found[2].split("/")):
            raise TokenswarmError(f"--upload: found {text!r}, expected s3://BUCKET/PREFIX", EXIT_USAGE)
        if not importlib.util.find_spec("obstore"):
            said = f"--upload: found no obstore, expected it: pip install -e '{ROOT}[s3]'"
            raise TokenswarmError(said, EXIT_USAGE)
        self._bucket, self._prefix = found.groups()
        self.at = f"s3://{self._bucket}/{self._prefix}"
        self.is_claimed = False

    def claim(self) -> None:
        """Put an empty SHA256SUMS there, where none is yet: the bucket can be written, the prefix is ours.

        The whole one takes its place at the end. Raises TokenswarmError.
        """
        import obstore  # noqa: PLC0415 - an extra
        from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415

        try:
            obstore.put(self._store(CLAIM_S), sealing.SUMS, b"", mode="create")
        except AlreadyExistsError:
            text = f"--upload: {self.at}/{sealing.SUMS} is there: found other results, expected a new prefix"
            raise TokenswarmError(text, EXIT_USAGE) from None
        except (BaseError, OSError, ValueError) as error:
            text = f"--upload: {self.at} cannot be written: {why(str(error))}"
            raise TokenswarmError(text, EXIT_NOT_STARTED) from None
        self.is_claimed = True

    def upload(self, out: Path) -> str:
        """Put all of a sealed directory there; returns what went wrong, in one line, or nothing."""
        import obstore  # noqa: PLC0415 - as above
        from obstore.exceptions import BaseError  # noqa: PLC0415

        names = [*(name for name, _ in sealing.files(out)), sealing.SUMS, sealing.DONE]
        name = ""
        try:
            store = self._store(UPLOAD_S)
            for name in names:
                obstore.put(store, name, out / name, max_concurrency=AT_ONCE)
        except (BaseError, OSError, ValueError) as error:
            return f"results were not uploaded, they are in {out}: {self.at}/{name}: {why(str(error))}"
        return ""

    def _store(self, patience_s: int) -> "S3Store":
        from obstore.store import S3Store  # noqa: PLC0415 - as above

        patience = timedelta(seconds=patience_s)
        return S3Store(
            self._bucket,
            prefix=self._prefix,
            client_options={
                "timeout": patience,
                "connect_timeout": timedelta(seconds=5),
                "allow_http": True,  # for an endpoint that says http:// itself
            },
            retry_config={"max_retries": 5, "retry_timeout": patience},
        )


def why(error: str) -> str:
    """Return what a message of obstore's comes to, in one line: it is a page, with the server's XML in it."""
    if "//169.254.169.254/" in error:  # where it looks when nothing else is left
        return "found no credentials, expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a workload's"
    if answer := re.search(r"<Code>(.*?)</Code>(?:\s*<Message>(.*?)</Message>)?", error, re.DOTALL):
        return " ".join(": ".join(filter(None, answer.groups())).split())
    first = error.partition("\n")[0].rpartition(" - ")[2]
    cause = CAUSE.search(error)
    return f"{first}: {next(filter(None, cause.groups()))}" if cause else first

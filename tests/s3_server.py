"""An S3 server in a process of its own, with a user who may put objects and no more, and one who may all."""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import requests
from obstore.store import S3Store

from tests.end_to_end.locusts import free_port

PACKAGES = ("moto[s3]==5.2.5", "flask==3.1.2", "flask-cors==6.0.1")  # its boto3 holds back our dateutil
PROGRAM = Path(__file__).with_name("s3_process.py")
BUCKET = "results"
USERS = {"putter": "s3:PutObject", "reader": "s3:*", "nobody": "s3:GetObject"}
SETTING_UP = 3 * len(USERS) + 1  # requests that nobody signs: what makes users, and the bucket


class Key(NamedTuple):
    """What a user signs with."""

    name: str
    secret: str


class S3(NamedTuple):
    """A server that is there."""

    url: str
    keys: dict[str, Key]
    log: Path

    def variables(self, user: str) -> dict[str, str]:
        """Return the environment of a program that is this user."""
        key = self.keys[user]
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": key.name,
            "AWS_SECRET_ACCESS_KEY": key.secret,
        }

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return what is there under a prefix, by its name there."""
        key = self.keys["reader"]
        store = S3Store(
            BUCKET,
            prefix=prefix,
            endpoint=self.url,
            region="us-east-1",
            access_key_id=key.name,
            secret_access_key=key.secret,
            client_options={"allow_http": True},
        )
        names = [one["path"] for one in store.list().collect()]
        return {name: bytes(store.get(name).bytes()) for name in names}

    def puts(self) -> list[str]:
        """Return the names of all objects that were put and answered, in their order."""
        return re.findall(rf'"(?:\x1b\S*)?PUT /{BUCKET}/(\S+) HTTP', self.log.read_text())


@contextmanager
def running_s3(python: Path, folder: Path, dies_at: int = 0) -> Iterator[S3]:
    """Run it until the block ends; it may die at the PUT of that number, that of the bucket not counted."""
    port, log = free_port(), folder / "s3.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [python, "-Iu", PROGRAM, str(port), str(dies_at and dies_at + 1)],
            env=os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(SETTING_UP)},
            stdout=said,
            stderr=said,
        )
        try:
            _wait(port, process, log)
            url = f"http://127.0.0.1:{port}"
            keys = {name: _user(url, name, action) for name, action in USERS.items()}
            requests.put(f"{url}/{BUCKET}", headers=_unsigned("s3"), timeout=30).raise_for_status()
            yield S3(url, keys, log)
        finally:
            process.kill()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


def _user(url: str, name: str, action: str) -> Key:
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    _iam(url, "CreateUser", UserName=name)
    _iam(url, "PutUserPolicy", UserName=name, PolicyName="all", PolicyDocument=policy)
    text = _iam(url, "CreateAccessKey", UserName=name)
    found = [re.search(f"<{tag}>(.*?)</{tag}>", text) for tag in ("AccessKeyId", "SecretAccessKey")]
    return Key(*(hit[1] for hit in found if hit))


def _iam(url: str, action: str, **fields: str) -> str:
    data = {"Action": action, "Version": "2010-05-08", **fields}
    answer = requests.post(url, data=data, headers=_unsigned("iam"), timeout=30)
    answer.raise_for_status()
    return answer.text


def _unsigned(service: str) -> dict[str, str]:
    scope = f"Credential=a/20260101/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}

"""Who may open our pages, and what a browser may do with them: asked of the real server, rule by rule.

The rules come from the server itself, so a route that is added later is asked, too.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.locusts import result
from tests.end_to_end.weblocust import Served, serving, until
from tests.sim_server import Answer, call
from tests.test_target import MODELS
from tests.test_target import serving as listening

LOGIN = str(Path(__file__).with_name("with_login.py"))
PASSWORD = "open sesame"  # noqa: S105 - of a server that lives for this test
KEY = "sk-tokenswarm-0123456789abcdef"
EVIL = "http://evil.example"
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


def rules(served: Served) -> list[tuple[str, str]]:
    """Return (method, path) of every rule of the server that a browser could ask, arguments filled in."""
    listed = Served(served.port, served.target, served.sim, served.locust, [], served.path).get("/rules").json
    return [
        (method, re.sub(r"<[^>]*>", "page.css", rule).removeprefix(served.base))
        for rule, methods in listed
        for method in methods
        if method not in {"HEAD", "OPTIONS"} and rule.startswith(served.base + "/")
    ]


def ours(served: Served) -> list[tuple[str, str]]:
    found = [(method, path) for method, path in rules(served) if path.startswith("/llm/")]
    assert {path for _, path in found} >= {"/llm/", "/llm/page/page.css", "/llm/metrics"}
    return found


def ask(served: Served, method: str, path: str, **headers: str) -> Answer:
    return served.get(path, **headers) if method == "GET" else served.post(path, **headers)


def ok_count(served: Served) -> float:
    """Return how many requests Prometheus is told were ok; 0 where it is told of none."""
    body = served.get("/llm/metrics").body.decode()
    line = re.compile(r'^tokenswarm_requests_total\{.*outcome="ok".*\} (\S+)$', re.MULTILINE)
    return sum(map(float, line.findall(body)))


def check_headers(answer: Answer) -> None:
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


@pytest.fixture(scope="module", params=["", "/load"], ids=["root", "base path"])
def closed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("closed")
    with serving(path, "--web-login", locustfile=LOGIN, base=request.param, PAGE_PASSWORD=PASSWORD) as served:
        yield served


@pytest.fixture(scope="module", params=[0, 2], ids=["one process", "master and workers"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("opened")
    with serving(path, locustfile=LOGIN, workers=request.param, TOKENSWARM_API_KEY=KEY) as served:
        yield served


def test_login_is_asked_of_every_rule_of_ours(closed: Served) -> None:
    for method, path in ours(closed):
        answer = ask(closed, method, path)
        assert answer.status == 302, (method, path)
        assert answer.headers["location"].startswith(f"{closed.base}/login"), (method, path)
        assert b"tokenswarm_" not in answer.body
        check_headers(answer)


def test_whoever_has_logged_in_gets_every_page(closed: Served) -> None:
    assert closed.post("/enter", {"password": "guess"}).status == 403
    entered = closed.post("/enter", {"password": PASSWORD})
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    for method, path in ours(closed):
        answer = ask(closed, method, path, cookie=cookie.partition(";")[0])
        assert answer.status < 500, (method, path, answer.body)
        assert answer.status != 302 or "/login" not in answer.headers["location"], (method, path)
        assert b"auth exception" not in answer.body, (method, path)
        check_headers(answer)
    missing = closed.get("/llm/page/none.css", cookie=cookie.partition(";")[0])
    assert missing.status == 404  # not a page of 200 about an exception


def test_prometheus_can_log_in_with_a_token(closed: Served) -> None:
    answer = closed.get("/llm/metrics", authorization=f"Bearer {PASSWORD}")
    assert answer.status == 200
    assert b"# TYPE tokenswarm_requests_total counter" in answer.body
    assert closed.get("/llm/metrics", authorization="Bearer guess").status == 302


def test_base_path_moves_everything(closed: Served) -> None:
    root = Served(closed.port, closed.target, closed.sim, closed.locust, [], closed.path)
    elsewhere = "" if closed.base else "/elsewhere"
    assert root.get(f"{elsewhere}/llm/").status == 404
    assert root.get(f"{elsewhere}/llm/metrics").status == 404


def test_every_page_answers_with_its_headers(opened: Served) -> None:
    for method, path in ours(opened):
        answer = ask(opened, method, path)
        assert answer.status < 500, (method, path, answer.body)
        assert method != "GET" or answer.status in {200, 404}, (method, path, answer.body)
        check_headers(answer)


def test_no_answer_is_for_other_sites_to_read(opened: Served) -> None:
    for method, path in (*rules(opened), ("GET", "/nothing/here")):
        if method == "GET":
            answer = opened.get(path, origin=EVIL)
            assert not [name for name in answer.headers if name.startswith("access-control")], path
    wish = {"origin": EVIL, "access-control-request-method": "POST"}
    for path in ("/swarm", "/llm/", "/llm/metrics"):
        preflight = call(opened.port, path, method="OPTIONS", headers=wish)
        assert not [name for name in preflight.headers if name.startswith("access-control")], path


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": ""},
    ],
    ids=str,
)
def test_another_sites_page_changes_nothing(opened: Served, headers: dict[str, str]) -> None:
    before = opened.runs()
    changing = [path for method, path in rules(opened) if method in UNSAFE]
    assert {"/swarm", "/stop", "/stats/reset"} <= set(changing)
    for path in changing:
        assert opened.post(path, {"user_count": "1", "spawn_rate": "1"}, **headers).status == 403, path
    assert opened.runs() == before


def test_other_sites_link_to_our_pages_and_load_none_into_theirs(opened: Served) -> None:
    for path in ("/", "/llm/", "/llm/data.json", "/llm/runs/latest.pdf"):
        for mode, site in (("no-cors", "cross-site"), ("cors", "same-site"), ("no-cors", "")):
            assert opened.get(path, sec_fetch_mode=mode, sec_fetch_site=site).status == 403, path
        assert opened.get(path, sec_fetch_mode="navigate", sec_fetch_site="cross-site").status in {200, 404}
        assert opened.get(path, sec_fetch_mode="cors", sec_fetch_site="same-origin").status in {200, 404}


def test_no_other_site_shows_our_pages_inside_its_own(opened: Served) -> None:
    for method, path in rules(opened):
        if method == "GET":
            assert opened.get(path).headers["x-frame-options"] == "SAMEORIGIN", path


@pytest.mark.parametrize("path", ["/swarm", "/llm/models.json"])
def test_key_is_sent_to_no_server_that_a_page_names(opened: Served, path: str) -> None:
    with listening(MODELS) as (url, asked):
        form = {"user_count": "1", "spawn_rate": "1", "host": url}
        answer = opened.post(path, form).json
        assert answer["success"] is False
        assert f"--host: found {url}, expected a server that was named at the start" in answer["message"]
        assert asked == []
    assert opened.post("/llm/models.json", {"host": opened.target}).json["success"]


def test_servers_that_were_named_for_it_are_sent_the_key(tmp_path: Path) -> None:
    with (
        listening(MODELS) as (url, asked),
        serving(tmp_path, "--key-hosts", f"https://other.example,{url}", TOKENSWARM_API_KEY=KEY) as served,
    ):
        assert served.post("/llm/models.json", {"host": url}).json["models"] == ["first", "second"]
        assert asked == [("/v1/models", f"Bearer {KEY}")]


@pytest.mark.parametrize("name", ["evil.example", "evil.example:80", "192.0.2.7", "localhost.evil.example"])
def test_another_name_for_this_machine_is_refused(opened: Served, name: str) -> None:
    for path in ("/", "/llm/", "/llm/metrics", "/stats/requests"):
        assert opened.get(path, host=name).status == 403
    assert opened.post("/stop", host=name, origin=f"http://{name}").status == 403


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "ui.localhost"])
def test_this_machines_own_names_are_welcome(opened: Served, name: str) -> None:
    host = f"{name}:{opened.port}"
    assert opened.get("/llm/", host=host).status == 200
    assert opened.post("/stats/reset", host=host, origin=f"http://{host}").status == 200


@pytest.mark.parametrize(
    "name",
    [
        "../_web.py",
        "%2e%2e/_web.py",
        "..%2f_web.py",
        "%2e%2e%2f_web.py",
        "..%5c_web.py",
        "..\\_web.py",
        "....//_web.py",
        "./../_web.py",
        "page.css/../../_web.py",
        "%252e%252e%252f_web.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "page.css%00.html",
        ".",
        "",
        "C:%5cWindows%5cwin.ini",
    ],
)
def test_no_path_leaves_the_pages_folder(opened: Served, name: str) -> None:
    answer = opened.get(f"/llm/page/{name}")
    assert answer.status in {308, 400, 404}, answer.body
    assert b"import " not in answer.body
    assert b"root:" not in answer.body


def test_key_is_shown_nowhere(opened: Served) -> None:
    environ = Path(f"/proc/{opened.locust.process.pid}/environ").read_bytes()
    assert KEY.encode() in environ  # it is there to be found
    opened.start(users=5)
    until(lambda: ok_count(opened) > 0)
    bodies = {path: opened.get(path).body for method, path in rules(opened) if method == "GET"}
    run = opened.stop()
    bodies |= {f"{path} after": opened.get(path).body for method, path in rules(opened) if method == "GET"}
    files = {str(file): file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    assert run.meta["target"]["model"].encode() in b"".join(files.values())
    assert len(files) > 8
    printed = {"printed": opened.said.encode()}
    secret = KEY.removeprefix("sk-").encode()
    assert [where for where, text in (bodies | files | printed).items() if secret in text] == []


def listens_on(served: Served) -> set[str]:
    return {
        connection.laddr.ip
        for connection in psutil.Process(served.locust.process.pid).net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == served.port
    }


def test_loopback_alone_unless_asked(opened: Served) -> None:
    assert listens_on(opened) == {"127.0.0.1"}
    assert "without a login" not in opened.said


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])  # noqa: S104 - that is what is warned of
def test_beyond_loopback_is_said_aloud(tmp_path: Path, host: str) -> None:
    with serving(tmp_path, "--web-host", host) as served:
        (warning,) = re.findall(r"WARNING/tokenswarm: (.*)", served.said)
        assert "without a login: whoever reaches it can start a load with it" in warning
        assert served.get("/llm/", host="load.example").status == 200  # any of its names will do


def test_name_of_a_proxy_before_us_is_welcome_when_it_is_said(tmp_path: Path) -> None:
    with serving(tmp_path, "--web-host-display-name", "https://load.example/ui") as served:
        assert served.get("/llm/", host="load.example").status == 200
        assert served.get("/llm/", host="evil.example").status == 403
        # The proxy's own name for us is in Host: who asks is in what the browser says.
        assert served.post("/stats/reset", origin="https://load.example").status == 200
        proxied = {"origin": "https://other.example", "sec_fetch_site": "same-origin"}
        assert served.post("/stats/reset", **proxied).status == 200
        assert served.post("/stats/reset", origin="https://other.example").status == 403


def test_autostart(tmp_path: Path) -> None:
    with serving(tmp_path, "--autostart", "-u", "5", "-r", "5") as served:
        until(lambda: b"tokenswarm_run_info{" in served.get("/llm/metrics").body)
        until(lambda: ok_count(served) > 0)
        served.runs_begun = 1
        folder = served.stop().path
        body = served.get("/llm/metrics").body.decode()
        assert "tokenswarm_run_info{" not in body
        assert ok_count(served) == result(folder).outcomes()["ok"]
        assert served.get("/llm/").status == 200
        served.start(users=3)  # and another by hand
        assert served.stop().path != folder

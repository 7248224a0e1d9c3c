"""Our command-line options, beside Locust's own, and what they mean once read.

They are declared once, here: Locust takes them as arguments, as TOKENSWARM_* environment variables and from
the form of its web page, and hands them to the workers. The API key is the exception: it comes from the
environment alone (the first of KEYS that is set), so it is in no process list, file or page.
"""

import os
from argparse import SUPPRESS
from dataclasses import dataclass
from typing import Any

import urllib3

from locustfiles._pacing import ARRIVALS
from locustfiles._reply import Deadlines
from locustfiles._workload import Workload, WorkloadError, parse_extra, parse_range, read_prompts

STOP_TIMEOUT_S = 30  # Locust's own default, 0, would cut every stream that is still running
SECOND_NS = 1_000_000_000
LONGEST_S = 86_400.0
RATES_PER_USER = (0.001, 1000.0)
KEYS = ("TOKENSWARM_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY")

TRANSPORTS = ("auto", "wire", "portable")
ENDPOINTS = ("chat", "completions")
PROMPT_SOURCES = ("auto", "words")


def add_arguments(parser: Any) -> None:
    """Add our options to Locust's parser (a LocustArgumentParser)."""
    parser.set_defaults(stop_timeout=STOP_TIMEOUT_S, web_host="127.0.0.1")  # not every address, unless asked

    def option(flag: str, default: object, text: str, **more: Any) -> None:
        name = "TOKENSWARM_" + flag.strip("-").replace("-", "_").upper()
        more.setdefault("type", type(default))
        parser.add_argument(flag, default=default, env_var=name, help=text, **more)

    def switch(flag: str, text: str, **more: Any) -> None:
        name = "TOKENSWARM_" + flag.strip("-").replace("-", "_").upper()
        parser.add_argument(flag, action="store_true", env_var=name, help=text, **more)

    hidden = {"include_in_web_ui": False}  # files are the command line's business, not a web page's
    option("--run-dir", "", "Directory for this run's results (default: out/<run id>)", **hidden)
    option("--sla", "", "SLA file (YAML) that runs are judged by; kept in the run directory", **hidden)
    option("--sla-text", "", SUPPRESS, **hidden)  # the file's text, or what a web page put in its place
    option("--metrics-port", 0, "Port on --web-host where Prometheus is answered, without a login", **hidden)
    option(
        "--key-hosts", "", "Servers beside --host that a page's run may send the API key: URL,URL", **hidden
    )
    option("--run-name", "", "What tables and reports call this run (default: the scenario)")
    option("--scenario", "", "Name of the rows in tables and files (default: the endpoint)")
    option("--endpoint", "chat", "Which API is asked", choices=ENDPOINTS)
    option("--model", "", "Model to ask for (default: the first that the server lists)")
    option("--prompt-words", "40-160", "Words in a prompt, N or LOW-HIGH")
    option("--max-tokens", "64", "Tokens to generate at most, N or LOW-HIGH")
    option("--prompts", "", "File with a prompt (or a JSON object with one) on each line", **hidden)
    option(
        "--prompt-source",
        "auto",
        "auto (the file of --prompts, where one is given) or words (generated)",
        choices=PROMPT_SOURCES,
    )
    option("--choices", 1, "Answers per request (n)")
    option("--extra-body", "", "JSON object merged into every request, such as '{\"temperature\": 0}'")
    option("--arrivals", "poisson", "Open loop: how arrivals are spaced", choices=ARRIVALS)
    option("--rate-per-user", 1.0, "Open loop: arrivals a second that one user is")
    option("--think-time", 0.0, "Closed loop: seconds between an answer and the next request")
    option("--warmup", 0.0, "Seconds after the last user was spawned that are not judged")
    option("--seed", 1, "Seed of prompts, lengths and arrivals")
    option("--transport", "auto", "wire (kernel time stamps) or portable", choices=TRANSPORTS)
    option("--connect-timeout", 10.0, "Seconds until a connection must stand")
    option("--first-token-timeout", 60.0, "Seconds until the first token must have come")
    option("--stall-timeout", 60.0, "Seconds between two tokens at most")
    option("--total-timeout", 600.0, "Seconds a request may take at most")
    switch("--no-more-workers", "Send workers away beyond those of --expect-workers", **hidden)
    option("--run-id", "", "", **hidden)  # the master's, for its workers
    switch("--ignore-eos", "Always generate max-tokens (vLLM's ignore_eos)")
    switch("--per-chunk-usage", "Ask for token counts in every chunk (vLLM's continuous_usage_stats)")
    switch("--insecure", "Do not check the server's certificate (https)", **hidden)


@dataclass(frozen=True)
class Settings:
    """The options of one run, checked."""

    scenario: str
    workload: Workload
    deadlines: Deadlines
    transport: str
    verify: bool
    think_s: float
    arrivals: str
    rate_per_user: float = 1.0

    @classmethod
    def read(cls, options: Any) -> "Settings":
        """Check Locust's parsed options; raises WorkloadError naming the option that is wrong."""
        workload = Workload(
            endpoint=options.endpoint,
            model=options.model,
            prompt_words=parse_range(options.prompt_words, "--prompt-words"),
            max_tokens=parse_range(options.max_tokens, "--max-tokens"),
            choices=options.choices,
            seed=options.seed,
            ignore_eos=options.ignore_eos,
            per_chunk_usage=options.per_chunk_usage,
            extra=parse_extra(options.extra_body),
            prompts=read_prompts(options.prompts) if options.prompt_source == "auto" else (),
        )
        if options.choices < 1:
            raise WorkloadError(f"--choices: found {options.choices}, expected at least 1")
        for name, known in (
            ("endpoint", ENDPOINTS),
            ("arrivals", ARRIVALS),
            ("transport", TRANSPORTS),
            ("prompt_source", PROMPT_SOURCES),
        ):
            if getattr(options, name) not in known:  # a web page's form is not checked by the parser
                raise WorkloadError(
                    f"--{name.replace('_', '-')}: found {getattr(options, name)!r}, "
                    f"expected one of {', '.join(known)}"
                )
        seconds = {
            name: getattr(options, f"{name}_timeout") for name in ("connect", "first_token", "stall", "total")
        }
        for name, value in seconds.items():
            if not 0 < value <= LONGEST_S:  # not a number is not either
                raise WorkloadError(
                    f"--{name.replace('_', '-')}-timeout: found {value}, "
                    f"expected more than 0 s and at most {LONGEST_S:g} s"
                )
        for name, value in (("think-time", options.think_time), ("warmup", options.warmup)):
            if not 0 <= value <= LONGEST_S:
                raise WorkloadError(
                    f"--{name}: found {value}, expected at least 0 s and at most {LONGEST_S:g} s"
                )
        low, high = RATES_PER_USER
        if not low <= options.rate_per_user <= high:
            raise WorkloadError(
                f"--rate-per-user: found {options.rate_per_user}, "
                f"expected between {low:g} and {high:g} arrivals a second"
            )
        if options.insecure:  # asked for: no warning with every connection
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return cls(
            scenario=options.scenario or options.endpoint,
            workload=workload,
            deadlines=Deadlines(*(int(value * SECOND_NS) for value in seconds.values())),
            transport=options.transport,
            verify=not options.insecure,
            think_s=options.think_time,
            arrivals=options.arrivals,
            rate_per_user=options.rate_per_user,
        )


def api_headers() -> dict[str, str]:
    """Return the authorization header, from the environment alone; empty without a key.

    Raises WorkloadError, which does not quote it, where a key holds what a header cannot.
    """
    for name in KEYS:
        key = os.environ.get(name, "").strip()
        if not all("!" <= mark <= "~" for mark in key):
            raise WorkloadError(
                f"{name}: found a character that no key holds, expected plain ASCII in one word"
            )
        if key:
            return {"authorization": f"Bearer {key}"}
    return {}

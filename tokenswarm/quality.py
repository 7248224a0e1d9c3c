"""The quality gate: ask two servers the same, judge what the second one lost, show and keep it.

In the folder of results: quality-base.json.gz, quality-candidate.json.gz and quality-floor.json.gz hold what
the servers said, quality.json the verdict, which can be made again from them without any server.
"""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import answers, quality
from analysis import sla as slas
from analysis.quality import Judged, Measure, QualityVerdict
from analysis.verdict import write_atomically
from server.errors import ServerError, UsageError
from server.making import Say
from server.quality import asking, questions
from server.quality.api import Api
from tokenswarm import EXIT_USAGE, TokenswarmError, judging, tables
from tokenswarm.serving import refusal

BASE, CANDIDATE, FLOOR = (f"quality-{name}.json.gz" for name in ("base", "candidate", "floor"))
VERDICT = "quality.json"
RESTARTED, SAME_PROCESS = "restarted", "same process, not restarted"


def main(  # noqa: PLR0913 - the command's arguments
    base_url: str, candidate_url: str, *, floor_url: str, sla: Path | None, out: Path | None, as_json: bool
) -> int:
    """Compare two servers, print the verdict, return its exit code. Raises TokenswarmError."""
    by = judging.sla(sla)
    out = out or Path("out") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-quality"
    with tables.telling(tables.console(machine=True)) as say:
        verdict = compare(base_url, candidate_url, out, by, say, floor_url=floor_url)
    if as_json:
        click.echo(json.dumps(verdict.to_json(), indent=2, allow_nan=False))
    else:
        console = tables.console(machine=False)
        show(verdict, console)
        console.print(f"Results: {out}", soft_wrap=True)
    return verdict.exit_code


def compare(  # noqa: PLR0913 - three servers, and what to do with what they say
    base_url: str, candidate_url: str, out: Path, sla: slas.Sla, say: Say, *, floor_url: str = ""
) -> QualityVerdict:
    """Ask both servers, and the baseline once more, and judge; everything is kept in `out`.

    The noise floor is what `floor_url` says, the baseline after a restart; without one the baseline itself
    is asked a second time. Raises TokenswarmError.
    """
    urls = {BASE: base_url, CANDIDATE: candidate_url, FLOOR: floor_url or base_url}
    try:
        _refuse_same([url for url in (base_url, candidate_url, floor_url) if url])
        served = {name: asking.look(url) for name, url in urls.items()}
        _check_floor(served[BASE], served[FLOOR])
        room = min(one.max_model_len for one in served.values())
        asked = questions.make(served[BASE].tokenize, room)
        for name, one in served.items():
            _keep(asking.ask(one, asked, _telling(name, say)), out / name)
    except ServerError as error:
        raise refusal(error) from None
    how = RESTARTED if floor_url else SAME_PROCESS
    return judge(out / BASE, out / CANDIDATE, sla, out, floor=(out / FLOOR, how))


def _refuse_same(urls: list[str]) -> None:
    """Refuse one server under two names: it would pass."""
    given = [Api(url).url for url in urls]
    if len({url.lower().replace("//localhost", "//127.0.0.1") for url in given}) < len(given):
        raise UsageError(f"found one server twice in {', '.join(given)}, expected different ones")


def _check_floor(base: asking.Served, floor: asking.Served) -> None:
    """Refuse a noise floor of another name; with another model's nothing would FAIL, nor PASS."""
    if base.model != floor.model:
        raise UsageError(
            f"{floor.api.url}: found the model {floor.model}, expected the baseline's, {base.model}"
        )


def ask(url: str, path: Path, say: Say, *, like: Path | None = None) -> None:
    """Ask one server, and keep what it says in `path`; with `like`, what another was asked, else anew.

    For experiments, whose servers run one after another. Raises TokenswarmError.
    """
    try:
        served = asking.look(url)
        if like is None:
            asked = questions.make(served.tokenize, served.max_model_len)
        else:
            asked = questions.again(json.loads(gzip.decompress(like.read_bytes())))
        _keep(asking.ask(served, asked, say), path)
    except ServerError as error:
        raise refusal(error) from None


def judge(
    base: Path, candidate: Path, sla: slas.Sla, out: Path, *, floor: tuple[Path, str] | None = None
) -> QualityVerdict:
    """Judge kept answers by an SLA's quality list, or by the default's, and write quality.json into `out`.

    `floor` is the baseline's second set of answers and how it came about. Raises TokenswarmError.
    """
    limits = sla.quality or slas.default().quality
    name = sla.name if sla.quality else f"{sla.name} with our own limits of quality"
    try:
        verdict = quality.judge(
            answers.load(base),
            answers.load(candidate),
            limits,
            floor=answers.load(floor[0]) if floor else None,
            how=floor[1] if floor else "",
            sla=name,
        )
    except answers.AnswersError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None
    text = json.dumps(verdict.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(out / VERDICT, text.encode("utf-8", "replace"))
    return verdict


def _keep(said: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    write_atomically(path, gzip.compress(text.encode("utf-8", "replace"), mtime=0))


def _telling(name: str, say: Say) -> Say:
    who = name.removeprefix("quality-").partition(".")[0]
    return lambda line: say(f"{who}: {line}")


def show(verdict: QualityVerdict, console: Console) -> None:
    """Print the verdict for people: each limit, what was found, and what is told beside it."""
    mark = "  (SIMULATED)" if verdict.simulated else ""
    table = Table(
        title=f"{verdict.candidate} against {verdict.base}, SLA {verdict.sla}{mark}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("limit")
    for column in ("found", "95 % bounds", "noise floor", ""):
        table.add_column(column, justify="right")
    status = Text(verdict.status, style=tables.STYLES[verdict.status])
    table.add_row("verdict", "", "", "", status, end_section=True)
    measures = {measure.name: measure for measure in verdict.measures}
    for limit in verdict.limits:
        table.add_row(*_cells(limit, measures[limit.measure]))
    console.print(table)
    console.print(_kinds(verdict))
    for line in _told(verdict):
        console.print(line, soft_wrap=True)
    for reason in verdict.reasons if verdict.status != "PASS" else ():
        console.print(Text(reason), style="dim", soft_wrap=True)
    for limit in verdict.limits:
        if limit.warning:
            console.print(Text(f"{limit.text}: warning: {limit.warning}"), style="yellow", soft_wrap=True)


def _cells(limit: Judged, measure: Measure) -> tuple[str | Text, ...]:
    shown = _writer(measure.name)
    most = f" to {shown(measure.most)}" if measure.most is not None else ""
    bounds = f"{shown(measure.low)} to {shown(measure.high)}"
    status = Text(limit.status, style=tables.STYLES[limit.status])
    return limit.text, shown(measure.value) + most, bounds, shown(measure.floor), status


def _writer(name: str) -> Callable[[float | None], str]:
    if name in slas.SHARES:
        return lambda value: "-" if value is None else f"{value * 100:.1f} %"
    return lambda value: "-" if value is None else f"{value:.4f}" if value < 100 else f"{value:.3g}"


def _kinds(verdict: QualityVerdict) -> Table:
    table = Table()
    table.add_column("kind of text")
    for column in ("positions", "perplexity", "ratio", "KL, at least", "same likeliest"):
        table.add_column(column, justify="right")
    shown = _writer("ppl_ratio")
    for kind in verdict.kinds:
        cells = (f"{kind.positions:,}", f"{kind.ppl_base:.4g}", shown(kind.ppl_ratio), shown(kind.kl))
        table.add_row(kind.kind, *cells, f"{kind.top1 * 100:.1f} %")
    return table


def _told(verdict: QualityVerdict) -> tuple[str, ...]:
    found = verdict.figures
    prefix = next(one for one in verdict.measures if one.name == "prefix_match")
    own = prefix.floor, found.floor_exact_match
    itself = "" if None in own else f" (noise floor {own[0]:.0%} and {own[1]:.0%})"
    texts = (
        f"perplexity {found.ppl_base:.4g} -> {found.ppl_candidate:.4g} over {found.positions:,} positions "
        f"of {found.texts} texts; KL median {found.kl_median:.4f}, p99 {found.kl_p99:.3g}; "
        f"a probability differs by up to {found.max_dp:.2f}"
    )
    free = (
        f"{found.prompts} answers: the same for {prefix.value:.0%} of their length, "
        f"{found.exact_match:.0%} to the end{itself}; endless {found.loop_base:.0%} -> "
        f"{found.loop_candidate:.0%}, empty {found.empty_base:.0%} -> {found.empty_candidate:.0%}, "
        f"cut at the token limit {found.cut_base:.0%} -> {found.cut_candidate:.0%}"
    )
    measured = "" if None in own else "the baseline against itself, "
    floor = f"noise floor: {measured}{verdict.floor}; bounds are one-sided"
    return texts, free, floor

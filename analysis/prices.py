"""What a replica costs: a price file (YAML), and from it the cost of tokens.

    currency: EUR               # how the figures are called; nothing is converted
    per_hour: {h100: 3.20}      # of one GPU, or of whatever a replica runs on
    gpu: h100                   # what every server runs on …
    gpus_per_replica: 1         # … and how many of it
    servers:                    # where one differs
      bf16: {gpus_per_replica: 2}
    output_per_input: 4         # optional: an output token counts as so many input tokens

Without `output_per_input` all of the cost is laid on the output tokens, for nothing says how to divide it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta

Price = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]

SECONDS_PER_HOUR = 3600
MILLION = 1e6


class PriceError(ValueError):
    """A price file that cannot be read: says where, what was found and what was expected."""


class ServerPrices(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where one server differs."""

    gpu: str = ""
    gpus_per_replica: Count | None = None


class Prices(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole file."""

    per_hour: dict[str, Price]
    gpu: str = ""
    currency: str = ""
    gpus_per_replica: Count = 1
    servers: dict[str, ServerPrices] = {}
    output_per_input: Price | None = None

    def of(self, server: str) -> "ReplicaPrice":
        """Return what a replica of a server costs. Raises PriceError where nothing says what it runs on."""
        own = self.servers.get(server, ServerPrices())
        gpu, gpus = own.gpu or self.gpu, own.gpus_per_replica or self.gpus_per_replica
        if not gpu:
            expected = f"expected the key gpu, or servers: {server}: gpu"
            raise PriceError(f"price file: found no gpu for {server}, {expected}")
        return ReplicaPrice(self.currency, gpu, gpus, gpus * self.per_hour[gpu], self.output_per_input)


@dataclass(frozen=True, slots=True)
class ReplicaPrice:
    """What a replica is made of and costs."""

    currency: str
    gpu: str
    gpus: int
    per_hour: float
    output_per_input: float | None


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What a million tokens cost at a goodput; `input` only where the file says how costs are divided."""

    per_million_output: float
    per_million_input: float | None


def read(path: Path | str) -> Prices:
    """Read a price file. Raises PriceError, one line, where it is none."""
    path = Path(path)
    try:
        prices = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Prices)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise PriceError(f"{path}: cannot be read ({reason})") from None
    except yaml.YAMLError as error:
        raise PriceError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    except msgspec.ValidationError as error:
        raise PriceError(f"{path}: {error}") from None
    if not prices.currency.strip():
        raise PriceError(f"{path}: found no currency, expected a word such as EUR")
    used = {"gpu": prices.gpu} if prices.gpu or not prices.servers else {}
    used |= {f"servers: {name}: gpu": own.gpu or prices.gpu for name, own in prices.servers.items()}
    for key, gpu in used.items():
        if gpu not in prices.per_hour:
            known = " or ".join(prices.per_hour) or "a price under per_hour"
            raise PriceError(f"{path}: {key}: found {gpu or 'nothing'}, expected {known}")
    return prices


def token_cost(
    price: ReplicaPrice, requests_per_s: float, input_tokens: float | None, output_tokens: float
) -> TokenCost:
    """Return what a million tokens cost while a replica answers so many requests a second.

    cost = price per hour / (3600 s * requests/s * tokens) * 10^6. Divided between input and output by the
    file's ratio r, where it has one and the input is known: a request counts as input + r * output tokens.
    """
    per_request = price.per_hour / (SECONDS_PER_HOUR * requests_per_s)
    ratio = price.output_per_input
    if ratio is None or not input_tokens:
        return TokenCost(per_request / output_tokens * MILLION, None)
    per_input = per_request / (input_tokens + ratio * output_tokens) * MILLION
    return TokenCost(ratio * per_input, per_input)

"""All that is checked of what an overlay renders to, by name."""

from collections.abc import Callable, Iterator

from tests.k8s import hardening, references, runs
from tests.k8s.manifests import Documents

VERSIONS = ("1.29", "1.34", "1.37")  # the oldest that README.md promises, one between, the newest

Check = Callable[[Documents], Iterator[str]]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        references.kinds,
        references.names,
        references.selectors,
        references.ports,
        references.references,
        references.addresses,
        references.images,
        hardening.restricted,
        hardening.resources,
        hardening.writable,
        runs.parsed,
        runs.worker_count,
        runs.deadlines,
        runs.once,
        runs.arguments,
    )
}

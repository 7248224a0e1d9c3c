"""The comparison is fair: what baseline and awq render to is the same, but for what is compared."""

from tests.k8s.fairness import ALLOWED, differences
from tests.k8s.manifests import overlay


def test_two_variants_differ_in_their_model_alone() -> None:
    assert differences(overlay("baseline"), overlay("awq")) == ALLOWED

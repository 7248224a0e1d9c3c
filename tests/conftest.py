"""What holds for all tests."""

from hypothesis import settings

# The same examples every time, and no deadline: a neighbour on the machine must not fail a law.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")

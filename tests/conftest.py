"""What holds for all tests."""

import signal

from hypothesis import settings

# The same examples every time, and no deadline: a neighbour on the machine must not fail a law.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")

# A shell starts background jobs with Ctrl-C ignored, and children inherit that; some tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

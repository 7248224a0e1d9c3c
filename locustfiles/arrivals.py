"""Open loop: requests arrive whatever the server does; `-u 20` is twenty arrivals a second.

locust -f locustfiles/arrivals.py --host http://127.0.0.1:8000 --headless -u 20 -r 20 -t 60

A rate that is no whole number: -u 3 --rate-per-user 0.8 is 2.4 arrivals a second.
"""

from locustfiles._users import OpenLoopUser


class Arrivals(OpenLoopUser):
    """One arrival a second; Poisson unless --arrivals constant."""

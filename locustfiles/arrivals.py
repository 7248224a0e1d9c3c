"""Open loop: requests arrive whatever the server does; `-u 20` is twenty arrivals a second.

locust -f locustfiles/arrivals.py --host http://127.0.0.1:8000 --headless -u 20 -r 20 -t 60
"""

from locustfiles._users import OpenLoopUser


class Arrivals(OpenLoopUser):
    """One arrival a second; Poisson unless --arrivals constant."""

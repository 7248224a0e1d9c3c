"""Closed loop: N users, each asking again when its answer is complete.

locust -f locustfiles/chat.py --host http://127.0.0.1:8000 --headless -u 20 -t 60
"""

from locustfiles._users import ClosedLoopUser


class Chat(ClosedLoopUser):
    """One person in a conversation window; --endpoint completions asks the other API."""

"""A locustfile with a load shape: five arrivals a second for four seconds, then twenty."""

from locust import LoadTestShape

from locustfiles.arrivals import Arrivals

__all__ = ["Arrivals", "Steps"]


class Steps(LoadTestShape):
    """Two steps; the second one ends the run."""

    def tick(self) -> tuple[int, float] | None:
        """Return (users, spawn rate) for now, None at the end."""
        now_s = self.get_run_time()
        if now_s > 9:
            return None
        return (5, 5) if now_s < 4 else (20, 20)

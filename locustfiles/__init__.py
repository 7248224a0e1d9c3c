"""Load: Locust users that measure every token on the wire."""

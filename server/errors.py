"""What can go wrong on the serving side: one clear line each, never a traceback."""


class ServerError(Exception):
    """Something could not be made or started: what was found, where, and what was expected."""


class UsageError(ServerError):
    """The user asked for what does not exist or does not fit; nothing was begun."""

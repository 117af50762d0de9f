"""What calls of Redis raise, for those who load no driver of Redis."""


class RedisUnavailableError(Exception):
    """Redis did not answer, or is not called because the breaker is open."""

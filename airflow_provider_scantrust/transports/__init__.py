"""Two thin drivers for the conversations of ``api``: ``blocking`` (requests) and ``aio`` (aiohttp)."""

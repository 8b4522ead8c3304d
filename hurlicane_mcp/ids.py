"""Names for jobs, attempts and tokens."""

import hashlib
import secrets
from typing import TypeAlias

JobId: TypeAlias = str
AttemptId: TypeAlias = str

# Crockford's base 32 in lower case: no i, l, o or u, so an id survives being read aloud.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str, length: int = 10) -> str:
    """A fresh id such as `job_k3m9x2p7aq`: 50 random bits for the default length."""
    return f"{prefix}_" + "".join(secrets.choice(ALPHABET) for _ in range(length))


def attempt_id(job_id: JobId, number: int) -> AttemptId:
    """The id of the *number*-th attempt (from 1) of a job: `job_k3m9x2p7aq.1`."""
    return f"{job_id}.{number}"


def new_token(role: str) -> str:
    """A bearer token of 192 random bits; its first letters name the role for the eye only."""
    return f"hc{role[0]}_{secrets.token_urlsafe(24)}"


def token_hash(token: str) -> str:
    """What the store keeps of a token: SHA-256 in hex. 192 random bits need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()

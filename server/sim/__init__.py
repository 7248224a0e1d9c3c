"""A simulated server: streams tokens over HTTP the way vLLM 0.32 does, without a model or a GPU.

It answers in one of two modes. *Model* mode runs a continuous-batching engine (`scheduler`) whose step
times come from a profile (`profiles`). *Script* mode (`script`) plays exactly what a test asks for.
Every answer says that it is simulated: `owned_by` in /v1/models and the `server` header.
"""

VERSION = "0.1.0"
SERVER = f"tokenswarm-sim/{VERSION}"
OWNER = "tokenswarm-sim"

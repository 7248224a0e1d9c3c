"""The two simulated servers, as constants.

What is imitated: a model of 3.2 billion parameters (28 layers, 8 KV heads of 128) on one GPU with 24 GB of
memory, 600 GB/s and about 70 TFLOPS that a real kernel reaches. The figures are first-principles estimates,
not measurements of any GPU:

- Decoding one step reads all weights once, whatever the batch. 16-bit weights are 6.4 GB: 10.7 ms, plus
  1.3 ms of launches, sampling and scheduling. 4-bit weights are 2.2 GB: 3.7 ms, plus 2.3 ms (the kernel
  starts slower). So AWQ's gap between tokens is half the baseline's while one user is alone.
- Every further sequence costs arithmetic. In 16 bits that hides behind the memory traffic (0.04 ms). AWQ
  has to unpack the weights for each tile of sequences and pays 0.19 ms. The two lines cross at
  (12 - 6) / (0.19 - 0.04) = 40 sequences: beyond, AWQ is the slower one.
- Attention reads the KV cache: 28 x 8 x 128 x 2 x 2 B = 115 kB a token, 0.00019 ms at 600 GB/s, for both.
- Prefill is arithmetic: 2 x 3.2e9 / 70e12 s = 0.09 ms a token; unpacking adds some 45 % for AWQ.
- What the weights leave of 90 % of 24 GB, less 2 GB of activations, holds the KV cache: 13.2 GB are 115 000
  tokens; with AWQ 17.4 GB are 151 000.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One simulated engine. Times in milliseconds, sizes in tokens."""

    name: str
    base_ms: float
    per_sequence_ms: float
    per_kv_token_ms: float
    per_prefill_token_ms: float
    kv_tokens: int
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192  # never more than kv_tokens: a request alone must fit
    jitter: float = 0.02  # standard deviation of a step's duration, as a share of it
    quality_noise: float = 0.0  # what quantization adds to each logit of the toy model, in logits

    def step_ms(self, batch: int, kv_tokens: int = 0, prefill_tokens: int = 0) -> float:
        """Duration of one engine step over `batch` sequences, without jitter."""
        return (
            self.base_ms
            + self.per_sequence_ms * batch
            + self.per_kv_token_ms * kv_tokens
            + self.per_prefill_token_ms * prefill_tokens
        )


BASELINE = Profile(
    name="baseline",
    base_ms=12.0,
    per_sequence_ms=0.04,
    per_kv_token_ms=0.00019,
    per_prefill_token_ms=0.09,
    kv_tokens=115_000,
)
AWQ = Profile(
    name="awq",
    base_ms=6.0,
    per_sequence_ms=0.19,
    per_kv_token_ms=0.00019,
    per_prefill_token_ms=0.13,
    kv_tokens=151_000,
    quality_noise=0.15,
)
PROFILES = {profile.name: profile for profile in (BASELINE, AWQ)}

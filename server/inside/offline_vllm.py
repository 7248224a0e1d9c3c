"""Measure vLLM without a server: one batch of prompts, sampled; prints the figures as JSON, last.

    ENV/bin/python offline_vllm.py PROMPTS MAX_TOKENS [arguments of vLLM's server]

PROMPTS is a JSON list of texts. The arguments are read as the server reads them, so both run the same engine.
"""

import json
import sys
import time
from pathlib import Path

from vllm import LLM, EngineArgs, SamplingParams
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

TEMPERATURE, TOP_P = 0.8, 0.95
WARM_UP_TOKENS = 8


def measure(llm: LLM, prompts: list[str], max_tokens: int) -> dict[str, float]:
    """Return throughput (requests/s, tokens/s) of one batch, after a batch that does not count."""
    # the same sizes, but another beginning: the measured prompts must not be in the prefix cache
    warm_up = [f"Once more: {prompt}" for prompt in prompts]
    llm.generate(warm_up, SamplingParams(max_tokens=WARM_UP_TOKENS), use_tqdm=False)
    sampling = SamplingParams(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=max_tokens)
    began = time.perf_counter()
    answers = llm.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - began
    read = sum(len(answer.prompt_token_ids or ()) for answer in answers)
    written = sum(len(choice.token_ids) for answer in answers for choice in answer.outputs)
    return {
        "requests_per_s": len(answers) / seconds,
        "output_tokens_per_s": written / seconds,
        "total_tokens_per_s": (read + written) / seconds,
        "prompt_tokens": read,
        "output_tokens": written,
        "seconds": seconds,
    }


def main() -> int:
    prompts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    parser = make_arg_parser(FlexibleArgumentParser())
    arguments = EngineArgs.from_cli_args(parser.parse_args(sys.argv[3:]))
    began = time.perf_counter()
    llm = LLM.from_engine_args(arguments)
    load_s = time.perf_counter() - began
    print(json.dumps(measure(llm, prompts, int(sys.argv[2])) | {"load_s": load_s}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

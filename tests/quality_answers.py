"""Answers of servers whose probabilities are known, for the quality gate's tests."""

from typing import Any

import numpy as np

from analysis.answers import Answers, decode

VOCABULARY = 200
K = 20
KINDS = ("prose", "code", "german")


def logs_of(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities, over the last axis."""
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def text_of(name: str, kind: str, logs: np.ndarray, tokens: np.ndarray, k: int = K) -> dict[str, Any]:
    """Return what a server with log probabilities [m, V] says of a text of m + 1 tokens."""
    top = np.argsort(-logs, axis=1)[:, :k]
    return {
        "name": name,
        "kind": kind,
        "text": "",
        "tokens": tokens.tolist(),
        "logprobs": logs[np.arange(len(logs)), tokens[1:]].tolist(),
        "top_ids": top.tolist(),
        "top_logprobs": np.take_along_axis(logs, top, axis=1).tolist(),
    }


def answer_of(number: int, token_ids: list[int], finish: str = "stop", text: str = "Yes.") -> dict[str, Any]:
    """Return one free answer."""
    prompt = {"kind": "fact", "prompt": f"Question {number}?", "prompt_ids": [1, 2, number]}
    return prompt | {"token_ids": token_ids, "text": text, "finish": finish}


def said(texts: list[dict[str, Any]], answers: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
    """Return the JSON object of one server."""
    head = {"schema": 1, "url": "http://server", "model": "m", "version": "0.32.0", "simulated": False}
    return head | {"texts": texts, "answers": answers} | other


def server(noise: float, **knobs: int) -> Answers:
    """Return the answers of a server (see `said_by`)."""
    return decode(said_by(noise, **knobs))


def said_by(
    noise: float, *, texts: int = 12, positions: int = 60, seed: int = 1, own: int = 1
) -> dict[str, Any]:
    """Return what a server says whose logits are the model `seed`'s plus Gaussian noise, drawn from `own`."""
    model, off = np.random.default_rng(seed), np.random.default_rng(1000 + own)
    read = []
    for number in range(texts):
        logits = model.normal(0, 2.5, (positions, VOCABULARY))
        tokens = model.integers(0, VOCABULARY, positions + 1)
        draw = model.random((positions, 1))
        tokens[1:] = (np.exp(logs_of(logits)).cumsum(axis=1) < draw).sum(axis=1).clip(0, VOCABULARY - 1)
        logs = logs_of(logits + off.normal(0, 1, logits.shape) * noise)
        read.append(text_of(f"text-{number}", KINDS[number % len(KINDS)], logs, tokens))
    answers = [answer_of(number, list(range(10 + number % 7))) for number in range(60)]
    return said(read, answers)

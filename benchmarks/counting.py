"""How far estimates of tokens are off, before and after learning: `uv run python -m benchmarks.counting`.

Real vendors' tokenisers were not at hand. What counts here are made-up ones that differ as real ones are said to: in
bytes a token of prose, code and JSON, in tokens a character of Chinese, and in what they add to a request with tools.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from mcp_proxy.core.time import Instant
from mcp_proxy.core.usage import Usage
from mcp_proxy.dialects.calibration import Calibration
from mcp_proxy.dialects.estimate import estimate_tokens, measure

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures" / "claude-code"
TAUGHT = 24
"""Answers after which the estimates count as learnt."""

REQUESTS = 160
WORDS = "the of proxy request answer when it is read again and why a model would count tokens another way".split()  # noqa: SIM905
CHINESE = "你好世界这是一个关于代理服务器的简短说明请求会被转发到上游"


class Tokeniser(NamedTuple):
    """A made-up one. prose, code, json: bytes a token; chinese: tokens a character; added: with tools."""

    name: str
    model: str
    prose: float
    code: float
    json: float
    chinese: float
    added: int

    def text(self, text: str) -> float:
        wide = sum(ord(letter) > 0x2E80 for letter in text)
        marks = sum(not letter.isalnum() and not letter.isspace() for letter in text)
        narrow = len(text.encode()) - 3 * wide
        rate = self.code if marks > 0.08 * len(text) else self.prose
        return narrow / rate + wide * self.chinese

    def count(self, body: dict[str, Any]) -> int:
        tools = body.get("tools") or []
        tokens = sum(map(self.block, _blocks(body.get("system"))))
        tokens += sum(len(json.dumps(tool)) / self.json for tool in tools)
        for message in body["messages"]:
            tokens += 4 + sum(map(self.block, _blocks(message.get("content"))))
        return round(tokens + (self.added if tools else 0))

    def block(self, block: dict[str, Any]) -> float:
        match block.get("type"):
            case "text":
                return self.text(block["text"])
            case "thinking":
                return self.text(block["thinking"])
            case "tool_result":
                return 4 + sum(map(self.block, _blocks(block.get("content"))))
            case "image" | "document":
                return 1600
            case _:
                return len(json.dumps(block, ensure_ascii=False).encode()) / self.json


TOKENISERS = (
    Tokeniser("as Claude until 4.6", "claude-opus-4-5", 4.1, 3.2, 2.9, 1.1, 350),
    Tokeniser("the same and 30 % more", "claude-opus-5", 4.1 / 1.3, 3.2 / 1.3, 2.9 / 1.3, 1.4, 450),
    Tokeniser("as GLM: JSON x 1.45", "glm-5.2", 3.9, 3.0, 2.0, 0.65, 200),
    Tokeniser("as Gemini", "gemini-3-pro-high", 4.4, 3.3, 3.1, 0.7, 100),
    Tokeniser("unknown, and 80 % more", "other", 2.2, 1.8, 1.6, 1.6, 0),
)


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def recorded() -> list[dict[str, Any]]:
    """Claude Code's requests of more than a few words."""
    found = (json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json")) if path.stem != "index")
    return [body for body in found if len(json.dumps(body)) > 4000]


def generated(rng: random.Random) -> dict[str, Any]:
    """A conversation of some kind: prose, code, tools, Chinese, in some mixture and of some length."""
    mixture = [rng.random() ** 2 for _ in range(4)]
    tools = [
        {"name": f"tool_{n}", "description": _prose(rng, 60), "input_schema": _schema(rng)}
        for n in range(rng.choice((0, 3, 12, 25)))
    ]
    messages: list[dict[str, Any]] = []
    for turn in range(rng.choice((1, 3, 10, 40))):
        kind = rng.choices("pcjz", mixture)[0]
        said = {"p": _prose(rng, 300), "c": _code(rng), "j": "", "z": CHINESE * rng.randint(5, 40)}[kind]
        if kind == "j":
            given = {f"key_{n}": [rng.randint(0, 999), rng.choice(WORDS)] for n in range(40)}
            use = {"type": "tool_use", "id": f"toolu_{turn}", "name": "tool_0", "input": given}
            result = {"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": _prose(rng, 40)}
            messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        else:
            messages.append({"role": "user" if turn % 2 == 0 else "assistant", "content": said})
    return {"model": "m", "system": _prose(rng, 400), "tools": tools, "messages": messages}


def _prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(words // 2, words * 2)))


def _code(rng: random.Random) -> str:
    lines = (
        f"    self._{rng.choice(WORDS)}[{n}] = {rng.choice(WORDS)}({n}, '{n:x}')" for n in range(rng.randint(5, 90))
    )
    return "def run(self):\n" + "\n".join(lines)


def _schema(rng: random.Random) -> dict[str, Any]:
    properties = {f"field_{n}": {"type": "string", "description": _prose(rng, 12)} for n in range(rng.randint(1, 7))}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


class Off(NamedTuple):
    """How far estimates are off. error: the median, as a part; under: how many are too low; worst: the lowest."""

    error: float
    under: float
    worst: float


def off(ratios: list[float]) -> Off:
    """ratios  estimate by truth"""
    return Off(
        median(abs(ratio - 1) for ratio in ratios), sum(ratio < 1 for ratio in ratios) / len(ratios), min(ratios)
    )


def run(tokeniser: Tokeniser, seed: int) -> tuple[Off, Off, Off]:
    """By bytes alone, with what is known of the family, and learnt. One answer in twelve lies about its tokens."""
    rng = random.Random(seed)
    bodies = recorded() + [generated(rng) for _ in range(REQUESTS)]
    rng.shuffle(bodies)
    calibration, untaught = Calibration(), Calibration()
    plain, known, learnt = [], [], []
    for number, body in enumerate(bodies):
        data = json.dumps(body, ensure_ascii=False).encode()
        size, truth = measure(data), tokeniser.count(body) * rng.gauss(1, 0.03)
        if number >= TAUGHT:
            plain.append(estimate_tokens(data) / truth)
            known.append(untaught.tokens(tokeniser.model, size) / truth)
            learnt.append(calibration.tokens(tokeniser.model, size) / truth)
        if calibration.wants(tokeniser.model, Instant(number * 60.0)):
            calibration.learn(tokeniser.model, size, Usage(input=round(lied(truth, rng))))
    return off(plain), off(known), off(learnt)


def lied(truth: float, rng: random.Random) -> float:
    """What an answer says: nothing, another request's, with a prompt that the upstream added; or the truth."""
    chance = rng.random()
    return 0 if chance < 0.03 else truth * 9 if chance < 0.05 else truth + 3000 if chance < 0.08 else truth


def rows(seeds: int) -> Iterator[str]:
    """The table."""
    yield "| tokeniser | by bytes: median error, too low | what is known of the family | learnt | lowest estimate |"
    yield "|---|---|---|---|---|"
    for tokeniser in TOKENISERS:
        runs = [run(tokeniser, seed) for seed in range(seeds)]
        told = [
            f"{median(each[stage].error for each in runs):.1%}, {median(each[stage].under for each in runs):.0%}"
            for stage in range(3)
        ]
        worst = median(each[2].worst for each in runs)
        yield f"| {tokeniser.name} | {' | '.join(told)} | {worst:.2f} × the truth |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs of which the median is shown")
    print("\n".join(rows(parser.parse_args().seeds)))


if __name__ == "__main__":
    main()

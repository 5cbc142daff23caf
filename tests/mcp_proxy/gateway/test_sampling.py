from __future__ import annotations

import asyncio

from mcp_proxy.core.usage import Usage
from mcp_proxy.dialects.calibration import Calibration
from mcp_proxy.dialects.estimate import Measure, measure
from mcp_proxy.gateway.jobs import Jobs
from mcp_proxy.gateway.sampling import Sampler
from tests.mcp_proxy.gateway.kit import HandClock, until

BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"word " * 2000 + b'"}]}'


async def test_a_request_is_measured_once_its_answer_has_begun_and_counted_once_that_has_ended() -> None:
    calibration, jobs, clock = Calibration(), Jobs(), HandClock()
    sampler = Sampler(calibration, jobs, clock)
    for _ in range(4):
        clock.at += 1
        sampled = sampler.take("m-1", BODY, None)
        assert sampled is not None and sampler.take("m-1", BODY, None) is None
        await until(lambda: not jobs._tasks)
        sampler.counted(sampled, Usage(input=round(1.5 * measure(BODY).prose)))
    assert abs(calibration.fit("m-1").rates.prose - 1.5) < 0.01
    await jobs.stop()


async def test_what_is_measured_already_is_not_measured_again() -> None:
    jobs = Jobs()
    sampled = Sampler(Calibration(), jobs, HandClock()).take("m-1", b"", Measure(7))
    assert sampled is not None and sampled.measure == Measure(7)
    assert not jobs._tasks


async def test_an_answer_that_ends_before_its_request_is_measured_teaches_nothing() -> None:
    calibration, jobs = Calibration(), Jobs()
    sampler = Sampler(calibration, jobs, HandClock())
    sampled = sampler.take("m-1", BODY, None)
    assert sampled is not None
    sampler.counted(sampled, Usage(input=10_000))
    assert calibration.fit("m-1") == Calibration().fit("m-1")
    await jobs.stop()
    await asyncio.sleep(0)

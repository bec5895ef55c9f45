"""Make `bench/data` from the recorded traces: `python -m bench.scaling.reduce FOLDER`.

FOLDER holds `AzureLLMInferenceTrace_code.csv` (Azure/AzurePublicDataset), `mooncake_conversation.jsonl`
(kvcache-ai/Mooncake, FAST25-release) and `servegen-m-small/` (alibaba/ServeGen, `data/language/m-small`); NOTICE says
whose they are. What is kept of a request is when it came and how long a replica would be busy with it:

    100 ms + context tokens / 8,000 a second + generated tokens x 20 ms

which is about what one GPU does with a model of eight billion parameters. ServeGen's windows of 600 s name a renewal
process: as many gaps are drawn from it (Gamma or Weibull; shape, scale) as the window's rate asks for, and stretched to
fill the window, since heavy tails would miss the rate in so short a time. There are no lengths: a service is log-normal
with a median of 1.5 s. All chance is seeded.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import sys
from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random

from bench.scaling.traces import DATA, Trace

BASE_S = 0.1
PREFILL_PER_S = 8_000
DECODE_S = 0.02
SERVICE_MEDIAN_S, SERVICE_SIGMA = 1.5, 0.8
WINDOW_S = 600
HOUR_S = 3_600
Requests = list[tuple[float, float]]


def main() -> None:
    folder = Path(sys.argv[1])
    keep("azure-code", azure(folder / "AzureLLMInferenceTrace_code.csv"), HOUR_S)
    keep("mooncake-conversation", mooncake(folder / "mooncake_conversation.jsonl"), HOUR_S)
    clients = folder / "servegen-m-small"
    keep("servegen-days", servegen(clients / "chunk-2-trace.csv", 10 * 24, 24), 24 * HOUR_S)
    keep("servegen-bursts", servegen(clients / "chunk-9-trace.csv", 8 * 24 + 12, 6), 6 * HOUR_S)
    keep("servegen-quiet", servegen(clients / "chunk-40-trace.csv", 2 * 24, 96), 96 * HOUR_S)


def took(context: int, generated: int) -> float:
    return BASE_S + context / PREFILL_PER_S + generated * DECODE_S


def azure(path: Path) -> Requests:
    rows = list(csv.DictReader(path.open()))
    times = [datetime.fromisoformat(one["TIMESTAMP"][:26]) for one in rows]
    return [((at - times[0]).total_seconds(), took(int(one["ContextTokens"]), int(one["GeneratedTokens"])))
            for at, one in zip(times, rows, strict=True)]  # fmt: skip


def mooncake(path: Path) -> Requests:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(one["timestamp"] / 1_000, took(one["input_length"], one["output_length"])) for one in rows]


def servegen(path: Path, first_hour: int, hours: int) -> Requests:
    chance = Random(path.name)
    found: Requests = []
    for start, rate, _, family, *parameters in csv.reader(path.open()):
        begins = float(start) - first_hour * HOUR_S
        if family and 0 <= begins < hours * HOUR_S:
            shape, scale = (float(each) for each in parameters)
            count = int(float(rate) * WINDOW_S + chance.random())
            gaps = [gap(chance, family, shape, scale) for _ in range(count + 1)]
            found.extend((begins + at, service(chance)) for at in within_window(gaps))
    return found


def within_window(gaps: list[float]) -> list[float]:
    """When the requests between these gaps come, the gaps stretched to fill the window."""
    stretched = WINDOW_S / sum(gaps)
    return [at * stretched for at in accumulate(gaps[:-1])]


def service(chance: Random) -> float:
    return SERVICE_MEDIAN_S * math.exp(SERVICE_SIGMA * chance.gauss(0, 1))


def gap(chance: Random, family: str, shape: float, scale: float) -> float:
    return chance.gammavariate(shape, scale) if family == "Gamma" else chance.weibullvariate(scale, shape)


def read(path: Path) -> Trace:
    """A trace in the columns of Azure's (.csv) or in Mooncake's (.jsonl), as long as its last request."""
    requests = mooncake(path) if path.suffix == ".jsonl" else azure(path)
    return reduced(path.stem, requests, math.ceil(max(at for at, _ in requests)) + 1)


def reduced(name: str, requests: Requests, length_s: int) -> Trace:
    ordered = sorted((round(at * 1_000), max(round(service * 1_000), 1)) for at, service in requests)
    return Trace(
        name=name,
        arrivals=tuple(at for at, _ in ordered),
        services=tuple(service for _, service in ordered),
        length=length_s * 1_000,
    )


def keep(name: str, requests: Requests, length_s: int) -> None:
    trace = reduced(name, requests, length_s)
    gaps = (at - before for before, at in pairwise((0, *trace.arrivals)))
    lines = [str(trace.length), *(f"{gap},{took}" for gap, took in zip(gaps, trace.services, strict=True))]
    packed = gzip.compress("\n".join(lines).encode(), mtime=0)
    (DATA / f"{name}.csv.gz").write_bytes(packed)
    print(f"{name}: {len(requests)} requests, {len(packed)} bytes")


if __name__ == "__main__":
    main()

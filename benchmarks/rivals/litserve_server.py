"""LitServe with its own batching. `python -m benchmarks.rivals.litserve_server PORT MAX_BATCH THREADS DEVICE`."""

import sys
from itertools import accumulate
from typing import Any

import litserve

from benchmarks.rivals.work import Work, limit_threads

_WINDOW_SECONDS = 0.002


class Generate(litserve.LitAPI):  # type: ignore[misc]  # litserve is not typed
    """Computes the samples of several requests in one forward pass. LitServe's batch size counts requests."""

    threads: int

    def setup(self, device: Any) -> None:
        limit_threads(self.threads)
        self.work = Work(str(device))

    def decode_request(self, request: dict[str, int]) -> list[int]:
        return list(range(request["seed"], request["seed"] + request["num_samples"]))

    def batch(self, inputs: list[list[int]]) -> list[list[int]]:
        return inputs

    def predict(self, inputs: list[list[int]]) -> list[list[dict[str, Any]]]:
        flat = [seed for seeds in inputs for seed in seeds]
        entries = [{"seed": seed, "data": file} for seed, file in zip(flat, self.work.draw(flat), strict=True)]
        ends = accumulate(map(len, inputs))
        return [entries[end - len(seeds) : end] for end, seeds in zip(ends, inputs, strict=True)]

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {"samples": output}


def main() -> None:
    """Serve on loopback until the process is ended."""
    port, max_batch, threads = map(int, sys.argv[1:4])
    api = Generate(max_batch_size=max_batch, batch_timeout=_WINDOW_SECONDS, api_path="/generate")
    api.threads = threads
    server = litserve.LitServer(api, accelerator=sys.argv[4], devices=1, timeout=120)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

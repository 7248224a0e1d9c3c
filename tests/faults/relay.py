"""A slow way for some reports: between Locust's workers and their master, as a program on a host of its own.

    python relay.py MASTER SHARE SECONDS

Listens where the master would. Every message goes through at once, but a share of the workers' reports
(drawn with a seed) waits for some seconds, while what was sent after them passes them by: worse than TCP,
where they would hold up the rest.
"""

import heapq
import random
import sys
import time

import msgpack
import zmq

PORT = 5557


def main(master: str, share: float, seconds: float) -> None:
    context = zmq.Context()
    front = context.socket(zmq.ROUTER)
    front.bind(f"tcp://*:{PORT}")
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    backs: dict[bytes, zmq.Socket[bytes]] = {}
    held: list[tuple[float, int, bytes, bytes]] = []
    draw = random.Random(1)
    passed = stayed = 0
    while True:
        wait_s = max(0.0, held[0][0] - time.monotonic()) if held else 1.0
        ready = dict(poller.poll(wait_s * 1e3))
        if front in ready:
            worker, message = front.recv_multipart()
            if worker not in backs:
                backs[worker] = context.socket(zmq.DEALER)
                backs[worker].setsockopt(zmq.IDENTITY, worker)
                backs[worker].connect(f"tcp://{master}:{PORT}")
                poller.register(backs[worker], zmq.POLLIN)
            kind, data, _ = msgpack.unpackb(message, strict_map_key=False)
            if kind == "stats" and data.get("tokenswarm") and draw.random() < share:
                stayed += 1
                heapq.heappush(held, (time.monotonic() + seconds, stayed, worker, message))
                print(f"reports: {stayed} held up, {passed} not", flush=True)
            else:
                passed += kind == "stats" and bool(data.get("tokenswarm"))
                backs[worker].send(message)
        for worker, back in backs.items():
            if back in ready:
                front.send_multipart([worker, back.recv()])
        while held and held[0][0] <= time.monotonic():
            _, _, worker, message = heapq.heappop(held)
            backs[worker].send(message)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))

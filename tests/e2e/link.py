"""A link between two network interfaces with a delay and a loss, for kernels without netem.

usage: link.py relay LEFT RIGHT DELAY_MS LOSS_PERCENT   forwards all frames between two interfaces of this namespace
       link.py plain INTERFACE                          turns off what would leave checksums and segments to the hardware
"""

import collections
import ctypes
import fcntl
import random
import select
import socket
import struct
import sys
import time

ETH_P_ALL = 3
SIOCETHTOOL = 0x8946
# ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO: off.
OFFLOADS = (0x17, 0x1F, 0x24, 0x2C)
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
BUFFER = 8 << 20


def plain(interface):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP8x", interface.encode(), ctypes.addressof(value))
            try:
                fcntl.ioctl(control, SIOCETHTOOL, request)
            except OSError as error:
                print(f"{interface}: offload {command:#x}: {error}")


def open_interface(interface):
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    frames.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    frames.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    frames.bind((interface, 0))
    frames.setblocking(False)
    return frames


def relay(left, right, delay, loss):
    ends = [open_interface(left), open_interface(right)]
    # The delay is the same for all, so frames stay in order.
    queues = [collections.deque(), collections.deque()]
    chance = random.Random(1)
    print("the link is up", flush=True)
    while True:
        now = time.monotonic()
        due = [queue[0][0] for queue in queues if queue]
        select.select(ends, [], [], max(0, min(due) - now) if due else None)
        for end, queue in zip(ends, queues):
            for _ in range(64):
                try:
                    frame = end.recv(65536)
                except BlockingIOError:
                    break
                if chance.random() >= loss:
                    queue.append((time.monotonic() + delay, frame))
        now = time.monotonic()
        for queue, to in zip(queues, reversed(ends)):
            while queue and queue[0][0] <= now:
                try:
                    to.send(queue.popleft()[1])
                except BlockingIOError:
                    pass


if sys.argv[1] == "plain":
    plain(sys.argv[2])
else:
    relay(sys.argv[2], sys.argv[3], float(sys.argv[4]) / 1000, float(sys.argv[5]) / 100)

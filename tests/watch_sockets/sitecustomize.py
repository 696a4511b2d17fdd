"""Put on PYTHONPATH, it writes down every address beyond loopback that a Python process and its children ask for."""

import ipaddress
import os
import socket
import sys

WATCHED = (
    "socket.connect",
    "socket.bind",
    "socket.sendto",
    "socket.sendmsg",
    "socket.getaddrinfo",
    "socket.gethostbyname",
)


def beyond_loopback(host):
    if host in (None, "", "localhost") or host == socket.gethostname():
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True  # a name: asking for it is a question to another machine


def watch(event, arguments):
    if event not in WATCHED:
        return
    address = arguments[0] if event.startswith("socket.get") else arguments[1]
    if event.startswith("socket.get"):
        host = address.decode() if isinstance(address, bytes) else address
    elif isinstance(address, tuple):
        host = address[0]
    else:
        return  # a Unix socket's path
    if beyond_loopback(host):
        with open(os.environ["SOCKETS_SEEN"], "a", encoding="utf-8") as handle:  # noqa: PTH123 - nothing imported here
            handle.write(f"{event} {host} by {' '.join(sys.argv[:2])}\n")


sys.addaudithook(watch)

"""Stands for a service manager: starts a command as a unit and prints what it is told, a line of JSON for each datagram.

Arguments: the socket (a path, or an abstract name after @), `descriptor` or `socket`, WATCHDOG_USEC or an empty text, and
the command. The unit's own output goes to standard error.
"""

import json
import os
import socket
import struct
import sys

name, way, watchdog, *command = sys.argv[1:]
address = "\0" + name[1:] if name.startswith("@") else name
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(address)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
connection.connect(address)
# Away from 3, where the unit expects its first descriptor.
listener_descriptor, connection_descriptor = os.dup(listener.fileno()), os.dup(connection.fileno())
listener_copy, connection_copy = os.dup2(listener_descriptor, 20), os.dup2(connection_descriptor, 21)
unit = os.fork()
if unit == 0:
    os.environ["NOTIFY_SOCKET"] = name
    if watchdog:
        os.environ["WATCHDOG_USEC"] = watchdog
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    if way == "descriptor":
        os.dup2(connection_copy, 3)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="notify")
    else:
        os.close(3)
    os.dup2(2, 1)
    os.closerange(4, 1024)
    os.execvp(command[0], command)
print(json.dumps({"unit": unit}), flush=True)
receiver = socket.socket(fileno=listener_copy)
while True:
    datagram, ancillary, _, _ = receiver.recvmsg(4096, socket.CMSG_SPACE(12))
    credentials = [data for level, kind, data in ancillary if kind == socket.SCM_CREDENTIALS]
    sender = struct.unpack("3i", credentials[0])[0] if credentials else 0
    print(json.dumps({"sender": sender, "text": datagram.decode()}), flush=True)

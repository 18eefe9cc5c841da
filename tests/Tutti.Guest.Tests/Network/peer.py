"""The guest's ends of ServerNetworkTests; what each prints is what the test reads."""
import hashlib
import os
import resource
import socket
import struct
import sys
import time


def many(host, port, count):
    """Opens all connections with a number on each before the first answer is read, which must be its connection's."""
    count = int(count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    begin = time.monotonic()
    all_of_them = []
    for number in range(1, count + 1):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(struct.pack("<i", number))
        all_of_them.append(connection)
    opened = time.monotonic()
    for number, connection in enumerate(all_of_them, 1):
        answer = connection.recv(4, socket.MSG_WAITALL)
        assert answer == struct.pack("<i", -number), f"answer {number}: {answer!r}"
    answered = time.monotonic()
    for connection in all_of_them:
        connection.shutdown(socket.SHUT_WR)
    for connection in all_of_them:
        assert connection.recv(1) == b"", "no end"
        connection.close()
    print(f"opened in {opened - begin:.2f} s, answered in {answered - opened:.2f} s, closed in {time.monotonic() - answered:.2f} s")


def send_then_read(host, port, count):
    """Ends its own direction first: the host's answer, the sum of all that came, still has its way."""
    data = os.urandom(int(count))
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection).decode()
    assert answer == hashlib.sha256(data).hexdigest(), answer
    print("whole")


def read_then_send(host, port, pause):
    """The host ends its direction first; its sum goes back on what is left, some time later."""
    with socket.create_connection((host, int(port))) as connection:
        data = read_all(connection)
        time.sleep(float(pause))
        connection.sendall(hashlib.sha256(data).hexdigest().encode())
    print("sent")


def read_slowly(host, port, path):
    """Takes a little at a time, with a small buffer, so that the window is shut again and again."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    connection.connect((host, int(port)))
    connection.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    data = b""
    while part := connection.recv(16384):
        data += part
        time.sleep(0.01)
    print(hashlib.sha256(data[data.index(b"\r\n\r\n") + 4:]).hexdigest())


def echo_datagrams(port):
    """Answers each datagram with its bytes backwards, by both versions, until it is killed."""
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", int(port)))
    while True:
        data, caller = server.recvfrom(65536)
        server.sendto(data[::-1], caller)


def look_up(server, count):
    """Asks for names by UDP, all at once, and for one by TCP; prints each address that it was told, once."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    wanted = {question(number): None for number in range(int(count))}
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(5)
        datagrams.connect((server, 53))
        for query in wanted:
            datagrams.send(query)
        answers = {answer[:2]: answer for answer in (datagrams.recv(2000) for _ in wanted)}
    assert len(answers) == len(wanted), f"{len(answers)} answers"
    with socket.create_connection((server, 53), 5) as stream:
        query = question(len(wanted))
        stream.sendall(struct.pack(">H", len(query)) + query)
        length, = struct.unpack(">H", stream.recv(2, socket.MSG_WAITALL))
        answers[query[:2]] = stream.recv(length, socket.MSG_WAITALL)
    print(*{socket.inet_ntoa(answer[-4:]) for answer in answers.values()})


def question(number):
    """RFC 1035 4.1: recursion desired, one question, an address of the internet's."""
    name = b"".join(bytes([len(part)]) + part for part in (b"n%d" % number, b"example", b""))
    return struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1)


def read_all(connection):
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


globals()[sys.argv[1]](*sys.argv[2:])

/* The network: a client here, a server on the host. The first letter that a connection carries says what it is for. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "io.h"

enum { PIECE = 128 * 1024, BODY = 512 };

static const char request[] = "GET /small HTTP/1.1\r\nHost: compare\r\nAccept: */*\r\n\r\n";
static char answer[256 + BODY];
static size_t answer_size;
static char piece[PIECE];
static int connection = -1;

static int write_all(int to, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t written = write(to, bytes, count);
        if (written <= 0) {
            return -1;
        }

        bytes += written;
        count -= (size_t)written;
    }

    return 0;
}

/* Server. */

static void answer_requests(int client, size_t got)
{
    char buffer[sizeof request];
    memset(buffer, 'G', got);
    while (1) {
        while (got < sizeof request - 1) {
            ssize_t more = read(client, buffer + got, sizeof request - 1 - got);
            if (more <= 0) {
                return;
            }

            got += (size_t)more;
        }

        if (write_all(client, answer, answer_size) != 0) {
            return;
        }

        got = 0;
    }
}

static void *serve_one(void *argument)
{
    int client = (int)(intptr_t)argument, on = 1;
    char kind;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char *bytes = malloc(PIECE);
    if (bytes != NULL && read(client, &kind, 1) == 1) {
        memset(bytes, 'x', PIECE);
        if (kind == 'G') {
            answer_requests(client, 1);
        } else if (kind == 'S') {
            while (read(client, bytes, PIECE) > 0) {
            }
        } else {
            while (write_all(client, bytes, PIECE) == 0) {
            }
        }
    }

    free(bytes);
    close(client);
    return NULL;
}

static void make_answer(void)
{
    answer_size = (size_t)sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", BODY);
    memset(answer + answer_size, 'x', BODY);
    answer_size += BODY;
}

int serve(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 4096) != 0
        || getsockname(listener, (struct sockaddr *)&at, &length) != 0) {
        perror("io serve");
        return 1;
    }

    make_answer();
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    while (1) {
        pthread_t thread;
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0) {
            if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)client) == 0) {
                pthread_detach(thread);
            } else {
                close(client);
            }
        } else if (errno != EINTR && errno != ECONNABORTED && errno != EMFILE) {
            perror("io serve");
            return 1;
        }
    }
}

/* Client. */

static int connect_now(void)
{
    int made = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (made < 0 || connect(made, (struct sockaddr *)&server, sizeof server) != 0) {
        fail("the server cannot be reached");
    }

    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return made;
}

static void prepare_requests(void)
{
    make_answer();
    connection = -1;
}

static void prepare_kind(char kind)
{
    memset(piece, kind, sizeof piece);
    connection = connect_now();
    if (write_all(connection, &kind, 1) != 0) {
        fail("the server takes nothing");
    }
}

static void prepare_send(void) { prepare_kind('S'); }
static void prepare_receive(void) { prepare_kind('R'); }

static struct total send_piece(void)
{
    if (write_all(connection, piece, PIECE) != 0) {
        fail("the server takes nothing");
    }

    return (struct total){ 1, PIECE, 0 };
}

static struct total receive_piece(void)
{
    ssize_t count = read(connection, piece, PIECE);
    if (count <= 0) {
        fail("the server sends nothing");
    }

    return (struct total){ 1, (uint64_t)count, 0 };
}

static void ask(int to)
{
    char got[sizeof answer];
    if (write_all(to, request, sizeof request - 1) != 0) {
        fail("the server takes no request");
    }

    for (size_t count = 0; count < answer_size;) {
        ssize_t more = read(to, got, sizeof got);
        if (more <= 0) {
            fail("the server gives no answer");
        }

        count += (size_t)more;
    }
}

static struct total ask_anew(void)
{
    int made = connect_now();
    ask(made);
    close(made);
    return (struct total){ 1, answer_size, 0 };
}

static struct total ask_again(void)
{
    if (connection < 0) {
        connection = connect_now();
    }

    ask(connection);
    return (struct total){ 1, answer_size, 0 };
}

static void prepare_ping(void)
{
    /* In a guest process 1 is root; elsewhere the kernel may let groups of users ping, by sockets of another kind. */
    connection = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    if (connection < 0) {
        fail("no right to ping");
    }
}

static struct total ping(void)
{
    static uint16_t sequence;
    struct { struct icmphdr header; uint8_t data[56]; } echo = { 0 };
    uint8_t got[256];
    echo.header.type = ICMP_ECHO;
    echo.header.un.echo.id = htons(0x7474);
    echo.header.un.echo.sequence = htons(++sequence);
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof echo / 2; i++) {
        sum += ((uint16_t *)&echo)[i];
    }

    sum = (sum & 0xFFFF) + (sum >> 16);
    echo.header.checksum = (uint16_t)~(sum + (sum >> 16));
    if (sendto(connection, &echo, sizeof echo, 0, (struct sockaddr *)&server, sizeof server) != sizeof echo) {
        fail("no echo can be sent");
    }

    while (1) {
        ssize_t count = recv(connection, got, sizeof got, 0);
        const struct iphdr *ip = (const struct iphdr *)got;
        const struct icmphdr *icmp = (const struct icmphdr *)(got + ip->ihl * 4);
        if (count < 0) {
            fail("no echo comes back");
        }

        if (count >= ip->ihl * 4 + (ssize_t)sizeof *icmp && icmp->type == ICMP_ECHOREPLY && icmp->un.echo.sequence == echo.header.un.echo.sequence) {
            return (struct total){ 1, sizeof echo, 0 };
        }
    }
}

const struct measurement net_send = { "net-send", prepare_send, send_piece };
const struct measurement net_receive = { "net-receive", prepare_receive, receive_piece };
const struct measurement net_connect = { "net-connect", prepare_requests, ask_anew };
const struct measurement net_request = { "net-request", prepare_requests, ask_again };
const struct measurement net_ping = { "net-ping", prepare_ping, ping };

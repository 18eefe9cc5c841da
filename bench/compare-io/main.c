/*
 * One static executable for all measurements of disk and network:
 *
 *   io serve                               a server on a free port of the loopback address, which it prints
 *   io measure MS ADDRESS:PORT DISK NAME.. measures each for so many milliseconds, against that server and that disk or file
 *
 * Each gives a line "NAME starts" when what is timed begins, and "NAME OPERATIONS BYTES NANOSECONDS" at its end or "NAME - REASON".
 * As process 1 it is a guest's init: it loads the drivers, sets the network card up, measures, and switches the machine off.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "io.h"

/* Long enough that a translator has met all of the code. */
enum { WARM_UP_MS = 400 };

struct sockaddr_in server;
const char *disk_path;
static uint64_t measured_ns;
static const char *current = "io";

static const struct measurement *const all[] = {
    &disk_read, &disk_write, &disk_randread_1, &disk_randread_32, &disk_randwrite_1, &disk_randwrite_32,
    &net_send, &net_receive, &net_connect, &net_request, &net_ping,
};

/* One write a line, so that lines stay whole. */
static void say(const char *format, ...)
{
    char line[256];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    if (write(STDOUT_FILENO, line, (size_t)length) < 0) {
        _exit(1);
    }
}

void fail(const char *what)
{
    say("%s - failed: %s: %m\n", current, what);
    _exit(1);
}

uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1D;
}

static struct total run_for(const struct measurement *measurement, uint64_t limit)
{
    uint64_t start = now();
    struct total sum = { 0 };
    do {
        struct total one = measurement->round();
        sum.operations += one.operations;
        sum.bytes += one.bytes;
        sum.ns = now() - start;
    } while (sum.ns < limit);
    return sum;
}

static void measure(const struct measurement *measurement)
{
    current = measurement->name;
    measurement->prepare();
    run_for(measurement, WARM_UP_MS * 1000000ull);
    say("%s starts\n", current);
    struct total sum = run_for(measurement, measured_ns);
    say("%s %llu %llu %llu\n", current, (unsigned long long)sum.operations, (unsigned long long)sum.bytes, (unsigned long long)sum.ns);
}

static void run(const char *name, unsigned limit)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        alarm(limit);
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
            if (strcmp(name, all[i]->name) == 0) {
                measure(all[i]);
                _exit(0);
            }
        }

        say("%s - failed: there is no such measurement\n", name);
        _exit(1);
    }

    while (waitpid(child, &status, 0) != child) {
    }

    if (WIFSIGNALED(status)) {
        say("%s - failed: signal %d\n", name, WTERMSIG(status));
    }
}

int main(int argc, char **argv)
{
    int is_init = getpid() == 1, port;
    char address[32];
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "serve") == 0) {
        return serve();
    }

    if (is_init) {
        /* From here on no message of the kernel comes between or into our lines: console level 1 (klogctl type 8). */
        klogctl(8, NULL, 1);
        say("io: init\n");
        set_up_guest();
    }

    if (argc < 6 || strcmp(argv[1], "measure") != 0 || sscanf(argv[3], "%31[0-9.]:%d", address, &port) != 2) {
        fprintf(stderr, "usage: io serve | io measure MILLISECONDS ADDRESS:PORT DISK NAME...\n");
        return 2;
    }

    measured_ns = strtoull(argv[2], NULL, 10) * 1000000;
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, address, &server.sin_addr);
    disk_path = argv[4];
    for (int i = 5; i < argc; i++) {
        run(argv[i], (unsigned)(measured_ns / 1000000000) + 20);
    }

    say("io: end\n");
    if (is_init) {
        reboot(RB_POWER_OFF);
    }

    return 0;
}

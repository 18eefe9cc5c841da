/*
 * One static executable for all benchmark programs:
 *
 *   programs LIMIT NAME...   measures each in a process of its own, LIMIT seconds at most
 *   programs --check NAME... runs each just long enough to check its result
 *   programs --text          writes the text that the byte programs work on
 *   programs --deflated      writes that text in raw DEFLATE
 *
 * Each program gives one line, "NAME NS_PER_OP CHECKSUM" or "NAME - REASON". As process 1 it is a guest's init: it says so
 * first, and switches the machine off at the end, or waits for ever where the kernel's command line names no program.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "programs.h"

/* Long enough that a translator has met all of the code. */
static uint64_t warm_up_ns = 100000000, measured_ns = 400000000;

static const struct program *const all[] = {
    &integer, &sha256, &deflate, &inflate, &matrix_sse2, &matrix_avx2, &x87, &memory_copy, &touch, &touch_again, &chase,
    &call_getpid, &fork_exec, &pipe_round_trip, &map_fault_unmap,
};

const char *own_path;
static const char *current = "programs";

/* One write a line, so that lines of several processes stay whole. */
static void say(const char *line)
{
    if (write(STDOUT_FILENO, line, strlen(line)) < 0) {
        _exit(1);
    }
}

void fail(const char *what)
{
    char line[256];
    snprintf(line, sizeof line, "%s - failed: %s\n", current, what);
    say(line);
    _exit(1);
}

void *small_pages(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fail("no memory");
    }

    /* A kernel without huge pages refuses, and needs no telling. */
    (void)madvise(memory, size, MADV_NOHUGEPAGE);
    return memory;
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

uint64_t hash_bytes(const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    uint64_t hash = 0xCBF29CE484222325;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ p[i]) * 0x100000001B3;
    }

    return hash;
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Rounds until the time is over, one at least; gives nanoseconds a round. */
static double run_for(const struct program *program, uint64_t limit)
{
    uint64_t start = now(), elapsed, rounds = 0;
    do {
        program->round();
        rounds++;
        elapsed = now() - start;
    } while (elapsed < limit);
    return (double)elapsed / (double)rounds;
}

static void warm_up(const struct program *program)
{
    current = program->name;
    if (program->lacks != NULL && program->lacks() != NULL) {
        char line[256];
        snprintf(line, sizeof line, "%s - %s\n", program->name, program->lacks());
        say(line);
        _exit(0);
    }

    if (program->prepare != NULL) {
        program->prepare();
    }

    run_for(program, warm_up_ns);
}

static void print_result(const char *name, double ns_per_op, uint64_t checksum)
{
    char line[256];
    snprintf(line, sizeof line, "%s %.4f %016llx\n", name, ns_per_op, (unsigned long long)checksum);
    say(line);
}

static void measure(const struct program *program)
{
    warm_up(program);
    uint64_t before = program->checksum();
    double ns = run_for(program, measured_ns);
    uint64_t after = program->checksum();
    if (before != after) {
        fail("two rounds gave different results");
    }

    print_result(program->name, ns / (double)program->ops, after);
}

/* A process moving between processors would be measured, too. */
static void pin(int index)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        fail("no processor affinity");
    }

    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && index-- == 0) {
            CPU_SET(cpu, &one);
            if (sched_setaffinity(0, sizeof one, &one) != 0) {
                fail("no processor affinity");
            }
            return;
        }
    }

    fail("there is no such processor");
}

/* The integer mix in two processes at once, one a processor. */
static void measure_pair(void)
{
    struct { double ns; uint64_t checksum; } results[2];
    int ready[2], go[2], done[2];
    cpu_set_t allowed;
    current = "pair";
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) {
        fail("there is only one processor");
    }

    if (pipe(ready) != 0 || pipe(go) != 0 || pipe(done) != 0) {
        fail("no pipe");
    }

    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child < 0) {
            fail("no process");
        }

        if (child == 0) {
            char token = 'r';
            pin(i);
            warm_up(&integer);
            if (write(ready[1], &token, 1) != 1 || read(go[0], &token, 1) != 1) {
                _exit(1);
            }

            results[0].ns = run_for(&integer, measured_ns);
            results[0].checksum = integer.checksum();
            _exit(write(done[1], &results[0], sizeof results[0]) == (ssize_t)sizeof results[0] ? 0 : 1);
        }
    }

    close(ready[1]);
    close(done[1]);
    char tokens[2] = "gg";
    for (int i = 0; i < 2; i++) {
        if (read(ready[0], &tokens[i], 1) != 1) {
            fail("a process ended early");
        }
    }

    if (write(go[1], tokens, 2) != 2) {
        fail("no pipe");
    }

    for (int i = 0; i < 2; i++) {
        if (read(done[0], &results[i], sizeof results[i]) != (ssize_t)sizeof results[i]) {
            fail("a process ended early");
        }
    }

    if (results[0].checksum != results[1].checksum) {
        fail("two processes gave different results");
    }

    print_result("pair", 1 / (1 / results[0].ns + 1 / results[1].ns) / (double)integer.ops, results[0].checksum);
}

static void run_child(const char *name)
{
    if (strcmp(name, "pair") == 0) {
        measure_pair();
        return;
    }

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(name, all[i]->name) == 0) {
            pin(0);
            measure(all[i]);
            return;
        }
    }

    current = name;
    fail("there is no such program");
}

static void run(const char *name, unsigned limit)
{
    char line[256];
    int status;
    pid_t child = fork();
    if (child < 0) {
        fail("no process");
    }

    if (child == 0) {
        /* A group of its own, so that none of the program's own processes outlives it. */
        setpgid(0, 0);
        alarm(limit);
        run_child(name);
        _exit(0);
    }

    while (waitpid(child, &status, 0) != child) {
    }

    kill(-child, SIGKILL);
    if (WIFSIGNALED(status)) {
        if (WTERMSIG(status) == SIGALRM) {
            snprintf(line, sizeof line, "%s - too slow: not done in %u s\n", name, limit);
        } else {
            snprintf(line, sizeof line, "%s - failed: signal %d\n", name, WTERMSIG(status));
        }
        say(line);
    }
}

static int write_all(const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes, size);
        if (written <= 0) {
            return 1;
        }

        bytes += written;
        size -= (size_t)written;
    }

    return 0;
}

static int write_deflated(void)
{
    static uint8_t output[TEXT_SIZE + 1024];
    return write_all(output, deflate_bytes(text, TEXT_SIZE, output, sizeof output));
}

int main(int argc, char **argv)
{
    bool is_init = getpid() == 1;
    own_path = argv[0];
    if (argc == 2 && strcmp(argv[1], "--exit") == 0) {
        return 0;
    }

    if (is_init) {
        /* From here on no message of the kernel comes between or into our lines: console level 1 (klogctl type 8). */
        klogctl(8, NULL, 1);
        say("compare: init\n");
        while (argc < 3) {
            pause();
        }
    }

    if (argc == 2 && (strcmp(argv[1], "--text") == 0 || strcmp(argv[1], "--deflated") == 0)) {
        make_text();
        return strcmp(argv[1], "--text") == 0 ? write_all(text, TEXT_SIZE) : write_deflated();
    }

    int limit = argc < 3 ? 0 : atoi(argv[1]);
    if (argc >= 3 && strcmp(argv[1], "--check") == 0) {
        warm_up_ns = measured_ns = 0;
        limit = 60;
    }

    if (limit <= 0) {
        fprintf(stderr, "usage: %s SECONDS NAME... | --check NAME... | --text | --deflated\n", argv[0]);
        return 2;
    }

    uint64_t start = now();
    say("compare: begin\n");
    for (int i = 2; i < argc; i++) {
        run(argv[i], (unsigned)limit);
    }

    /* The host compares this time with its own: a guest's clock that goes wrong makes wrong figures. */
    char line[64];
    snprintf(line, sizeof line, "compare: end %llu\n", (unsigned long long)(now() - start));
    say(line);
    if (is_init) {
        reboot(RB_POWER_OFF);
    }

    return 0;
}

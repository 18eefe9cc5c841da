/* What the kernel does for programs: a call that does nothing, new processes, messages between two, mappings. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "programs.h"

enum { CALLS = 5000, PROCESSES = 4, ROUND_TRIPS = 200, MAPPINGS = 40, PAGES = 16, PAGE = 4096 };

static uint64_t sum;
static int to_partner[2], from_partner[2];

static void run_getpid(void)
{
    sum = 0;
    long own = getpid();
    for (int i = 0; i < CALLS; i++) {
        /* Past the library, which could remember the answer. */
        sum += syscall(SYS_getpid) == own;
    }
}

static void run_fork(void)
{
    sum = 0;
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            execl(own_path, own_path, "--exit", (char *)NULL);
            _exit(1);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            fail("a process did not start or end well");
        }
        sum++;
    }
}

/* Answers each byte with its successor until the pipe is closed. */
static void prepare_pipe(void)
{
    if (pipe(to_partner) != 0 || pipe(from_partner) != 0) {
        fail("no pipe");
    }

    pid_t partner = fork();
    if (partner < 0) {
        fail("no process");
    }

    if (partner == 0) {
        uint8_t value;
        close(to_partner[1]);
        while (read(to_partner[0], &value, 1) == 1) {
            value++;
            if (write(from_partner[1], &value, 1) != 1) {
                break;
            }
        }
        _exit(0);
    }
}

static void run_pipe(void)
{
    sum = 0;
    for (int i = 0; i < ROUND_TRIPS; i++) {
        uint8_t value = (uint8_t)i;
        if (write(to_partner[1], &value, 1) != 1 || read(from_partner[0], &value, 1) != 1 || value != (uint8_t)(i + 1)) {
            fail("a wrong answer");
        }
        sum = sum * 31 + value;
    }
}

static void run_map(void)
{
    sum = 0;
    for (int i = 0; i < MAPPINGS; i++) {
        uint8_t *memory = small_pages(PAGES * PAGE);
        for (int k = 0; k < PAGES; k++) {
            volatile uint8_t *byte = memory + k * PAGE;
            if (*byte != 0) {
                fail("a fresh page was not zero");
            }
            *byte = (uint8_t)k;
            sum += *byte;
        }
        munmap(memory, PAGES * PAGE);
    }
}

static uint64_t checksum(void)
{
    return sum;
}

const struct program call_getpid = { .name = "getpid", .round = run_getpid, .checksum = checksum, .ops = CALLS };
const struct program fork_exec = { .name = "fork-exec", .round = run_fork, .checksum = checksum, .ops = PROCESSES };
const struct program pipe_round_trip =
    { .name = "pipe", .prepare = prepare_pipe, .round = run_pipe, .checksum = checksum, .ops = ROUND_TRIPS };
const struct program map_fault_unmap = { .name = "mmap", .round = run_map, .checksum = checksum, .ops = MAPPINGS };

/* Storms of fork, exec and wait; memory shared until written; pipes. */
#include "stress.h"
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int status_of(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        fail("fork or wait: %s", strerror(errno));
    }
    if (!WIFEXITED(status)) {
        fail("a child ended by signal %d", WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}

/* Runs the body in as many processes as there are processors. */
static void in_processes(void (*body)(int))
{
    pid_t all[MAX_THREADS];
    for (int i = 0; i < threads; i++) {
        all[i] = fork();
        if (all[i] == 0) {
            body(i);
            _exit(0);
        }
    }
    for (int i = 0; i < threads; i++) {
        if (status_of(all[i]) != 0) {
            _exit(1);
        }
    }
}

static void fork_and_exit(int number)
{
    uint64_t state = seed_of(number);
    while (running()) {
        int code = next_random(&state) % 256;
        pid_t child = fork();
        if (child == 0) {
            _exit(code);
        }
        int status = status_of(child);
        if (status != code) {
            fail("exit status %d, not %d", status, code);
        }
        counted(1);
    }
}
static void forks(void) { in_processes(fork_and_exit); }

extern char **environ;

static void exec_and_exit(int number)
{
    uint64_t state = seed_of(number);
    while (running()) {
        int code = next_random(&state) % 256;
        char text[8];
        sprintf(text, "%d", code);
        char *words[] = {"stress", "--child", text, NULL};
        pid_t child;
        if (code % 2 == 0) {
            if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, words, environ) != 0) {
                fail("posix_spawn");
            }
        } else if ((child = fork()) == 0) {
            execv("/proc/self/exe", words);
            _exit(255);
        }
        int status = status_of(child);
        if (status != code) {
            fail("exit status %d, not %d", status, code);
        }
        counted(1);
    }
}
static void execs(void) { in_processes(exec_and_exit); }

/* After fork each side sees what was there, and nothing of what the other one writes. */
enum { COPIED = 32 };

static bool all_are(const uint64_t *words, uint64_t value)
{
    for (size_t i = 0; i < COPIED * PAGE / 8; i += 37) {
        if (words[i] != value + i) {
            return false;
        }
    }
    return true;
}

static void fill(uint64_t *words, uint64_t value)
{
    for (size_t i = 0; i < COPIED * PAGE / 8; i += 37) {
        words[i] = value + i;
    }
}

static void copy_on_write(int number)
{
    uint64_t state = seed_of(number);
    uint64_t *words = map_pages(COPIED, PROT_READ | PROT_WRITE);
    while (running()) {
        uint64_t ours = next_random(&state), theirs = next_random(&state);
        fill(words, ours);
        pid_t child = fork();
        if (child == 0) {
            bool before = all_are(words, ours);
            fill(words, theirs);
            _exit(!before || !all_are(words, theirs));
        }
        if (number % 2 == 0) {
            fill(words, ours + 1);
        }
        if (status_of(child) != 0) {
            fail("a child saw memory that was not its own");
        }
        if (!all_are(words, ours + (number % 2 == 0))) {
            fail("a child wrote to its parent's memory");
        }
        counted(1);
    }
}
static void copies(void) { in_processes(copy_on_write); }

static void pass_through_pipe(int number)
{
    int ends[2];
    if (pipe(ends) != 0) {
        fail("pipe");
    }
    uint64_t total = 0;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        uint64_t state = seed_of(number);
        while (running()) {
            uint8_t block[3000];
            size_t size = next_random(&state) % sizeof block + 1;
            for (size_t i = 0; i < size; i++, total++) {
                block[i] = total * 7 ^ total >> 8;
            }
            if (write(ends[1], block, size) != (ssize_t)size) {
                _exit(1);
            }
        }
        _exit(0);
    }
    close(ends[1]);
    uint8_t block[4096];
    for (ssize_t size; (size = read(ends[0], block, sizeof block)) > 0;) {
        for (ssize_t i = 0; i < size; i++, total++) {
            if (block[i] != (uint8_t)(total * 7 ^ total >> 8)) {
                fail("byte %lu of the pipe is %d", total, block[i]);
            }
        }
    }
    if (status_of(child) != 0) {
        fail("write to a pipe");
    }
    counted(total);
}
static void pipes(void) { in_processes(pass_through_pipe); }

const part process_parts[] = {
    {"fork-exit", forks},
    {"fork-exec", execs},
    {"copy-on-write", copies},
    {"pipes", pipes},
    {NULL, NULL},
};

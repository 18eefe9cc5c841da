/* stress SECONDS [SEED [PART]]: runs every part in a process of its own, so that one that hangs is seen and ended. */
#include "stress.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LEFT_OUT = 77, SLACK = 60 };

int threads;
static const part *const lists[] = {
    lock_parts, futex_parts, process_parts, signal_parts, fault_parts, shootdown_parts, code_parts, order_parts, unit_parts, key_parts,
};
static const char *name;
static double deadline;
static uint64_t seed = 1;
static unsigned long *count; /* shared with children of the part */
static pid_t part_process;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

bool running(void)
{
    /* Each thread does something, however late it comes to it. */
    static __thread int asked;
    return now() < deadline || asked++ < 2;
}

void counted(unsigned long n) { __atomic_fetch_add(count, n, __ATOMIC_RELAXED); }

static void say(const char *verdict, const char *format, va_list list)
{
    /* One write, so that lines of threads don't mix; no locks, as a signal handler may say it. */
    char line[512];
    int n = snprintf(line, sizeof line, "PART %s %s ", name, verdict);
    n += vsnprintf(line + n, sizeof line - n - 2, format, list);
    n = n > (int)sizeof line - 2 ? (int)sizeof line - 2 : n;
    line[n++] = '\n';
    if (write(STDOUT_FILENO, line, n) != n) {
        _exit(2);
    }
}

void fail(const char *format, ...)
{
    static volatile int said;
    if (__atomic_exchange_n(&said, 1, __ATOMIC_SEQ_CST) == 0) {
        va_list list;
        va_start(list, format);
        say("FAILED", format, list);
        va_end(list);
        _exit(1);
    }
    for (;;) {
        pause();
    }
}

void leave_out(const char *reason)
{
    char line[256];
    int n = snprintf(line, sizeof line, "PART %s left out: %s\n", name, reason);
    _exit(write(STDOUT_FILENO, line, n) == n ? LEFT_OUT : 2);
}

typedef struct {
    void (*body)(int);
    int number;
} start;

static void *begin(void *argument)
{
    start s = *(start *)argument;
    free(argument);
    s.body(s.number);
    return NULL;
}

pthread_t begin_thread(void (*body)(int), int number)
{
    start *s = malloc(sizeof *s);
    *s = (start){body, number};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, begin, s);
    if (error != 0) {
        fail("pthread_create: %s", strerror(error));
    }
    return thread;
}

void end_thread(pthread_t thread)
{
    if (pthread_join(thread, NULL) != 0) {
        fail("pthread_join");
    }
}

void run_threads(int n, void (*body)(int))
{
    pthread_t all[MAX_THREADS * 2];
    for (int i = 1; i < n; i++) {
        all[i] = begin_thread(body, i);
    }
    body(0);
    for (int i = 1; i < n; i++) {
        end_thread(all[i]);
    }
}

void pass(gate *g, int n)
{
    int round = g->round;
    if (__atomic_add_fetch(&g->arrived, 1, __ATOMIC_SEQ_CST) == n) {
        g->arrived = 0;
        __atomic_store_n(&g->round, round + 1, __ATOMIC_SEQ_CST);
        return;
    }
    for (int i = 1; g->round == round; i++) {
        relax();
        if (i % 512 == 0) {
            nanosleep(&(struct timespec){0, 1000}, NULL);
        }
    }
}

uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

uint64_t seed_of(int number) { return seed * 1000003 + number; }

void *map_pages(size_t n, int protection)
{
    void *p = mmap(NULL, n * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        fail("mmap: %s", strerror(errno));
    }
    return p;
}

char *map_strangers(int protection)
{
    int file = memfd_create("strangers", 0);
    char *p = map_pages(2, PROT_NONE);
    if (file < 0 || ftruncate(file, 4 * PAGE) != 0 || mmap(p, PAGE, protection, MAP_SHARED | MAP_FIXED, file, 3 * PAGE) != p
        || mmap(p + PAGE, PAGE, protection, MAP_SHARED | MAP_FIXED, file, PAGE) != p + PAGE) {
        fail("memfd: %s", strerror(errno));
    }
    close(file);
    return p;
}

/* Waits for a part's end, and kills it, whatever it has started, when that does not come. */
static bool await(double seconds)
{
    double limit = now() + 3 * seconds + SLACK;
    int status;
    while (waitpid(part_process, &status, WNOHANG) == 0) {
        if (now() > limit) {
            printf("PART %s FAILED no end after %.0f s\n", name, 3 * seconds + SLACK);
            kill(-part_process, SIGKILL);
            waitpid(part_process, &status, 0);
            return false;
        }
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    kill(-part_process, SIGKILL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        printf("PART %s ok %lu\n", name, *count);
        if (*count == 0) {
            printf("PART %s FAILED nothing was done\n", name);
        }
        return *count != 0;
    }
    if (WIFSIGNALED(status)) {
        printf("PART %s FAILED signal %d\n", name, WTERMSIG(status));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == LEFT_OUT;
}

static bool run(const part *p, double seconds)
{
    name = p->name;
    *count = 0;
    part_process = fork();
    if (part_process == 0) {
        setpgid(0, 0);
        deadline = now() + seconds;
        p->run();
        _exit(0);
    }
    setpgid(part_process, part_process);
    return await(seconds);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--child") == 0) {
        return atoi(argv[2]);
    }
    if (argc < 2 || atof(argv[1]) <= 0) {
        fprintf(stderr, "usage: stress SECONDS [SEED [PART]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    threads = sysconf(_SC_NPROCESSORS_ONLN);
    threads = threads < 2 ? 2 : threads > MAX_THREADS ? MAX_THREADS : threads;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    count = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int parts = 0, bad = 0;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (const part *p = lists[i]; p->name != NULL; p++) {
            parts += argc < 4 || strcmp(argv[3], p->name) == 0;
        }
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (const part *p = lists[i]; p->name != NULL; p++) {
            if (argc < 4 || strcmp(argv[3], p->name) == 0) {
                bad += !run(p, atof(argv[1]) / parts);
            }
        }
    }
    printf("STRESS of %d parts ended, %d failed\n", parts, bad);
    return bad != 0;
}

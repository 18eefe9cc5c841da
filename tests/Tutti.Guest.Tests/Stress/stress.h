/* A stress of processors that share memory: parts that count what they did and check every result. */
#pragma once
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;
    void (*run)(void);
} part;

/* Each list ends with a part that has no name. */
extern const part lock_parts[], futex_parts[], process_parts[], signal_parts[], fault_parts[], shootdown_parts[], code_parts[], order_parts[],
    unit_parts[], key_parts[];

#define PAGE 4096
#define MAX_THREADS 16

/* Processors that are on line, but at least 2: threads that share one change places at any instruction. */
extern int threads;

/* Whether the part's time is not over yet. */
bool running(void);

/* Adds to what the part counts. */
void counted(unsigned long n);

/* Says what is wrong and ends the part, all its threads and children with it. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Ends the part because this machine lacks what it needs, and says so. */
void leave_out(const char *reason) __attribute__((noreturn));

/* Runs the body in n threads, with their numbers, until all have ended. */
void run_threads(int n, void (*body)(int number));

/* A thread that runs beside the caller. */
pthread_t begin_thread(void (*body)(int number), int number);
void end_thread(pthread_t thread);

/* Lets all of the part's n threads through together, again and again. */
typedef struct {
    volatile int arrived, round;
} gate;
void pass(gate *g, int n);

uint64_t next_random(uint64_t *state);
uint64_t seed_of(int number);

/* Fresh private memory. */
void *map_pages(size_t count, int protection);

/* Two pages side by side whose memory is not, so that an operand across their border lies in two places. Shared. */
char *map_strangers(int protection);

static inline void relax(void) { __builtin_ia32_pause(); }
static inline void serialize(void)
{
    uint32_t a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

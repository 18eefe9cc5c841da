/* Hand-over from thread to thread by way of the kernel: a wake-up that is lost hangs the part. */
#include "stress.h"
#include <linux/futex.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile bool over;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER, filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;
static unsigned long turn;

/* Whoever's turn it is gives it to the next one. */
static void take_turns(int number)
{
    int n = threads + 1;
    pthread_mutex_lock(&mutex);
    while (!over) {
        while (turn % n != (unsigned long)number && !over) {
            pthread_cond_wait(&turned, &mutex);
        }
        turn++;
        over |= number == 0 && !running();
        pthread_cond_broadcast(&turned);
    }
    pthread_mutex_unlock(&mutex);
}
static void turns(void)
{
    run_threads(threads + 1, take_turns);
    counted(turn);
}

/* A bounded queue: what goes in comes out, once. */
enum { ROOM = 7 };
static uint64_t queue[ROOM], put_sum, taken_sum;
static unsigned long put_count, taken_count;
static int producers;

static void put_or_take(int number)
{
    uint64_t state = seed_of(number);
    if (number % 2 == 0) {
        while (running()) {
            uint64_t item = next_random(&state) | 1;
            pthread_mutex_lock(&mutex);
            while (put_count - taken_count == ROOM) {
                pthread_cond_wait(&emptied, &mutex);
            }
            queue[put_count++ % ROOM] = item;
            put_sum += item;
            pthread_cond_signal(&filled);
            pthread_mutex_unlock(&mutex);
        }
        pthread_mutex_lock(&mutex);
        producers--;
        pthread_cond_broadcast(&filled);
        pthread_mutex_unlock(&mutex);
        return;
    }
    pthread_mutex_lock(&mutex);
    for (;;) {
        while (put_count == taken_count && producers > 0) {
            pthread_cond_wait(&filled, &mutex);
        }
        if (put_count == taken_count) {
            break;
        }
        uint64_t *item = &queue[taken_count++ % ROOM];
        if (*item == 0) {
            fail("an item was taken twice");
        }
        taken_sum += *item;
        *item = 0;
        pthread_cond_signal(&emptied);
    }
    pthread_mutex_unlock(&mutex);
}
static void bounded_queue(void)
{
    producers = threads;
    run_threads(2 * threads, put_or_take);
    if (put_sum != taken_sum || put_count != taken_count) {
        fail("put %lu items, took %lu; sums %lx and %lx", put_count, taken_count, put_sum, taken_sum);
    }
    counted(taken_count);
}

/* A mutex of three states, straight on the system call. */
static volatile uint32_t word;
static volatile uint64_t inside, entries;

static long futex(volatile uint32_t *at, int operation, uint32_t value)
{
    return syscall(SYS_futex, at, operation, value, NULL, NULL, 0);
}

static void enter_and_leave(int number)
{
    uint64_t state = seed_of(number);
    while (running()) {
        uint32_t seen = 0;
        if (!__atomic_compare_exchange_n(&word, &seen, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            while (__atomic_exchange_n(&word, 2, __ATOMIC_SEQ_CST) != 0) {
                futex(&word, FUTEX_WAIT, 2);
            }
        }
        if (inside++ != 0) {
            fail("two in the mutex");
        }
        for (int wait = next_random(&state) % 64; wait > 0; wait--) {
            relax();
        }
        entries++;
        inside--;
        if (__atomic_exchange_n(&word, 0, __ATOMIC_SEQ_CST) == 2) {
            futex(&word, FUTEX_WAKE, 1);
        }
    }
}
static void raw_mutex(void)
{
    run_threads(2 * threads, enter_and_leave);
    counted(entries);
}

/* Two threads that pass a number to and fro; each sleeps until it changes. */
static volatile uint32_t ball;

static void pass_ball(int number)
{
    uint32_t mine = number;
    while (!over) {
        for (uint32_t seen; (seen = ball) % 2 != mine && !over;) {
            futex(&ball, FUTEX_WAIT, seen);
        }
        over |= number == 0 && !running();
        __atomic_fetch_add(&ball, 1, __ATOMIC_SEQ_CST);
        futex(&ball, FUTEX_WAKE, 1);
    }
}
static void ping_pong(void)
{
    run_threads(2, pass_ball);
    counted(ball);
}

/* Semaphores between processes, and memory that they share. */
static void semaphores(void)
{
    struct {
        sem_t forth, back;
        volatile uint64_t value;
    } *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem_init(&shared->forth, 1, 0);
    sem_init(&shared->back, 1, 0);
    if (fork() == 0) {
        for (;;) {
            sem_wait(&shared->forth);
            uint64_t value = shared->value;
            shared->value = value * 3 + 1;
            sem_post(&shared->back);
            if (value == 0) {
                _exit(0);
            }
        }
    }
    uint64_t state = seed_of(0), value;
    do {
        value = running() ? next_random(&state) | 1 : 0;
        shared->value = value;
        sem_post(&shared->forth);
        sem_wait(&shared->back);
        if (shared->value != value * 3 + 1) {
            fail("the other process gave %lx for %lx", shared->value, value);
        }
        counted(1);
    } while (value != 0);
    wait(NULL);
}

/* More threads than processors, together again and again. */
static pthread_barrier_t barrier;
static unsigned long steps[MAX_THREADS * 2];

static void step_together(int number)
{
    for (bool last = false; !last;) {
        steps[number]++;
        over |= number == 0 && !running();
        pthread_barrier_wait(&barrier);
        last = over;
        for (int i = 0; i < threads * 2; i++) {
            if (steps[i] != steps[number]) {
                fail("thread %d is at step %lu, thread %d at %lu", i, steps[i], number, steps[number]);
            }
        }
        pthread_barrier_wait(&barrier);
    }
}
static void barriers(void)
{
    pthread_barrier_init(&barrier, NULL, threads * 2);
    run_threads(threads * 2, step_together);
    counted(steps[0]);
}

const part futex_parts[] = {
    {"turns", turns},       {"bounded-queue", bounded_queue}, {"raw-mutex", raw_mutex},
    {"ping-pong", ping_pong}, {"semaphores", semaphores},       {"barriers", barriers},
    {NULL, NULL},
};

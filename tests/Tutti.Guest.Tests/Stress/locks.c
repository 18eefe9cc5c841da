/* Locked instructions of every kind, on operands that lie well, across cache lines and across pages. */
#include "stress.h"
#include <sched.h>
#include <sys/mman.h>

/* What a lock guards: plain memory whose fields must agree whoever comes next. */
static struct {
    volatile uint64_t a, b;
    volatile uint32_t c;
} guarded;

static void (*acquire)(void), (*release)(void);
static char *place; /* of the lock, or of the counter */

static void guard(int number)
{
    uint64_t state = seed_of(number);
    for (unsigned long n = 0;; n++) {
        if (n % 64 == 0) {
            counted(n == 0 ? 0 : 64);
            if (!running()) {
                return;
            }
        }
        acquire();
        uint64_t a = guarded.a;
        if (guarded.b != ~a || guarded.c != (uint32_t)a) {
            fail("two in the lock: %lx %lx %x", a, guarded.b, guarded.c);
        }
        guarded.a = a + 1;
        guarded.b = ~(a + 1);
        guarded.c = (uint32_t)(a + 1);
        release();
        for (int wait = next_random(&state) % 32; wait > 0; wait--) {
            relax();
        }
    }
}

static void wait_a_while(int *spins)
{
    relax();
    if (++*spins % 256 == 0) {
        sched_yield();
    }
}

static void run_guard(void (*in)(void), void (*out)(void), char *lock)
{
    acquire = in;
    release = out;
    place = lock;
    guarded.a = 0;
    guarded.b = ~0ul;
    guarded.c = 0;
    run_threads(threads, guard);
}

static void ticket_in(void)
{
    uint32_t mine = 1;
    int spins = 0;
    __asm__ volatile("lock xaddl %0, %1" : "+r"(mine), "+m"(*(uint32_t *)place) : : "memory", "cc");
    while (*(volatile uint32_t *)(place + 64) != mine) {
        wait_a_while(&spins);
    }
}
static void ticket_out(void)
{
    __asm__ volatile("incl %0" : "+m"(*(uint32_t *)(place + 64)) : : "memory", "cc");
}

static void cmpxchg_in(void)
{
    for (int spins = 0;; wait_a_while(&spins)) {
        uint32_t old = 0;
        __asm__ volatile("lock cmpxchgl %2, %1" : "+a"(old), "+m"(*(uint32_t *)place) : "r"(1) : "memory", "cc");
        if (old == 0) {
            return;
        }
    }
}
static void store_out(void) { *(volatile uint32_t *)place = 0; }

static void xchg_in(void)
{
    for (int spins = 0;; wait_a_while(&spins)) {
        uint64_t value = 1;
        __asm__ volatile("xchgq %0, %1" : "+r"(value), "+m"(*(uint64_t *)place) : : "memory");
        if (value == 0) {
            return;
        }
    }
}
static void xchg_out(void)
{
    uint64_t value = 0;
    __asm__ volatile("xchgq %0, %1" : "+r"(value), "+m"(*(uint64_t *)place) : : "memory");
}

static void bts_in(void)
{
    for (int spins = 0;; wait_a_while(&spins)) {
        bool taken;
        __asm__ volatile("lock btsw $11, %1" : "=@ccc"(taken), "+m"(*(uint16_t *)place) : : "memory");
        if (!taken) {
            return;
        }
    }
}
static void btr_out(void)
{
    bool taken;
    __asm__ volatile("lock btrw $11, %1" : "=@ccc"(taken), "+m"(*(uint16_t *)place) : : "memory");
    if (!taken) {
        fail("the lock's bit was lost");
    }
}

static char area[3 * PAGE] __attribute__((aligned(PAGE)));

static void ticket(void) { run_guard(ticket_in, ticket_out, area + 256); }
static void cmpxchg(void) { run_guard(cmpxchg_in, store_out, area + 256); }
static void xchg(void) { run_guard(xchg_in, xchg_out, area + 256); }
static void bts(void) { run_guard(bts_in, btr_out, area + 256); }
static void xchg_lines(void) { run_guard(xchg_in, xchg_out, area + 64 - 3); }
static void bts_lines(void) { run_guard(bts_in, btr_out, area + 64 - 1); }
static void xchg_pages(void) { run_guard(xchg_in, xchg_out, map_strangers(PROT_READ | PROT_WRITE) + PAGE - 5); }
static void bts_pages(void) { run_guard(bts_in, btr_out, map_strangers(PROT_READ | PROT_WRITE) + PAGE - 1); }

/* Counts one up by an instruction of a random kind; all of them must be in the sum at the end. */
#define COUNT_UP(type, s, c)                                                                                       \
    static void count_up_##s(int number)                                                                           \
    {                                                                                                              \
        uint64_t state = seed_of(number);                                                                          \
        type *p = (type *)place;                                                                                   \
        for (unsigned long n = 0; n % 64 != 0 || running(); n++) {                                                 \
            type one = 1, old, new;                                                                                \
            bool done = true;                                                                                      \
            switch (next_random(&state) % 6) {                                                                     \
            case 0: __asm__ volatile("lock inc" #s " %0" : "+m"(*p) : : "cc"); break;                              \
            case 1: __asm__ volatile("lock add" #s " $1, %0" : "+m"(*p) : : "cc"); break;                          \
            case 2: __asm__ volatile("lock sub" #s " $-1, %0" : "+m"(*p) : : "cc"); break;                         \
            case 3: __asm__ volatile("stc\n\tlock adc" #s " $0, %0" : "+m"(*p) : : "cc"); break;                   \
            case 4: __asm__ volatile("lock xadd" #s " %0, %1" : "+" c(one), "+m"(*p) : : "cc"); break;             \
            default:                                                                                               \
                old = *(volatile type *)p;                                                                         \
                do {                                                                                               \
                    new = old + 1;                                                                                 \
                    __asm__ volatile("lock cmpxchg" #s " %3, %1"                                                   \
                                     : "+a"(old), "+m"(*p), "=@ccz"(done) : c(new) : "memory");                    \
                } while (!done);                                                                                   \
            }                                                                                                      \
            __atomic_fetch_add(&expected, 1, __ATOMIC_RELAXED);                                                    \
        }                                                                                                          \
    }

static uint64_t expected;
COUNT_UP(uint8_t, b, "q")
COUNT_UP(uint16_t, w, "r")
COUNT_UP(uint32_t, l, "r")
COUNT_UP(uint64_t, q, "r")

static void sum(void (*body)(int), size_t size, char *at)
{
    place = at;
    expected = 0;
    run_threads(threads, body);
    uint64_t found = 0;
    __builtin_memcpy(&found, at, size);
    if (found != (expected & (~0ul >> (64 - 8 * size)))) {
        fail("%zu bytes at %lx: %lx, not %lx", size, (uintptr_t)at % PAGE, found, expected);
    }
    counted(expected);
}

static void sum_bytes(void) { sum(count_up_b, 1, area + 515); }
static void sum_words(void) { sum(count_up_w, 2, area + 520); }
static void sum_longs(void) { sum(count_up_l, 4, area + 528); }
static void sum_quads(void) { sum(count_up_q, 8, area + 536); }
static void sum_words_lines(void) { sum(count_up_w, 2, area + 639); }
static void sum_longs_lines(void) { sum(count_up_l, 4, area + 703); }
static void sum_quads_lines(void) { sum(count_up_q, 8, area + 763); }
static void sum_words_pages(void) { sum(count_up_w, 2, map_strangers(PROT_READ | PROT_WRITE) + PAGE - 1); }
static void sum_longs_pages(void) { sum(count_up_l, 4, map_strangers(PROT_READ | PROT_WRITE) + PAGE - 1); }
static void sum_quads_pages(void) { sum(count_up_q, 8, map_strangers(PROT_READ | PROT_WRITE) + PAGE - 6); }

/* Half of the threads count in the low part of a word across pages that the others count in as a whole. */
static void count_mixed(int number)
{
    for (unsigned long n = 0; n % 64 != 0 || running(); n++) {
        if (number % 2 == 0) {
            __asm__ volatile("lock incl %0" : "+m"(*(uint32_t *)place) : : "cc");
        } else {
            __asm__ volatile("lock incq %0" : "+m"(*(uint64_t *)place) : : "cc");
        }
        __atomic_fetch_add(&expected, 1, __ATOMIC_RELAXED);
    }
}
static void sum_mixed(void) { sum(count_mixed, 8, map_strangers(PROT_READ | PROT_WRITE) + PAGE - 4); }

/* A pair of words that changes as one. */
static uint64_t pair[2] __attribute__((aligned(16)));

static void change_pair(int number)
{
    (void)number;
    for (unsigned long n = 0; n % 64 != 0 || running(); n++) {
        uint64_t low = 0, high = 0;
        bool done = false;
        while (!done) {
            if (high != low * 0x9E3779B97F4A7C15) {
                fail("cmpxchg16b read halves of two pairs: %lx %lx", low, high);
            }
            __asm__ volatile("lock cmpxchg16b %2" : "+a"(low), "+d"(high), "+m"(pair), "=@ccz"(done)
                             : "b"(low + 1), "c"((low + 1) * 0x9E3779B97F4A7C15) : "memory");
        }
        __atomic_fetch_add(&expected, 1, __ATOMIC_RELAXED);
    }
}

static void cmpxchg16b(void)
{
    run_threads(threads, change_pair);
    if (pair[0] != expected) {
        fail("cmpxchg16b: %lu, not %lu", pair[0], expected);
    }
    counted(expected);
}

/* Bits of a string of 4096 as locks, reached by offsets that leave the operand to both sides. */
static uint64_t bits[64];
static int owners[4096];

static void take_bits(int number)
{
    uint64_t state = seed_of(number);
    for (unsigned long n = 0; n % 64 != 0 || running(); n++) {
        int64_t bit = (int64_t)(next_random(&state) % 4096) - 2048;
        bool set;
        __asm__ volatile("lock btsq %2, %1" : "=@ccc"(set), "+m"(bits[32]) : "r"(bit) : "memory");
        if (set) {
            continue;
        }
        int *owner = &owners[bit + 2048], before = *owner;
        *(volatile int *)owner = number + 1;
        for (int wait = next_random(&state) % 16; wait > 0; wait--) {
            relax();
        }
        if (before != 0 || *(volatile int *)owner != number + 1) {
            fail("bit %ld has two owners", bit);
        }
        *(volatile int *)owner = 0;
        __asm__ volatile("lock btrq %2, %1" : "=@ccc"(set), "+m"(bits[32]) : "r"(bit) : "memory");
        if (!set) {
            fail("bit %ld was lost", bit);
        }
        counted(1);
    }
}
static void bit_strings(void) { run_threads(threads, take_bits); }

const part lock_parts[] = {
    {"lock-xadd", ticket},
    {"lock-cmpxchg", cmpxchg},
    {"lock-xchg", xchg},
    {"lock-bts", bts},
    {"lock-xchg-lines", xchg_lines},
    {"lock-bts-lines", bts_lines},
    {"lock-xchg-pages", xchg_pages},
    {"lock-bts-pages", bts_pages},
    {"sum-bytes", sum_bytes},
    {"sum-words", sum_words},
    {"sum-longs", sum_longs},
    {"sum-quads", sum_quads},
    {"sum-words-lines", sum_words_lines},
    {"sum-longs-lines", sum_longs_lines},
    {"sum-quads-lines", sum_quads_lines},
    {"sum-words-pages", sum_words_pages},
    {"sum-longs-pages", sum_longs_pages},
    {"sum-quads-pages", sum_quads_pages},
    {"sum-mixed-pages", sum_mixed},
    {"cmpxchg16b", cmpxchg16b},
    {"bit-strings", bit_strings},
    {NULL, NULL},
};

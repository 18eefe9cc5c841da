/* Litmus tests of memory order. What x86 forbids must never be seen; what it allows is only counted. */
#include "stress.h"
#include <stdio.h>
#include <string.h>

enum { CELLS = 128, STRIDE = 16 /* words, so that each is in a cache line of its own */ };

static volatile uint32_t x[CELLS * STRIDE], y[CELLS * STRIDE];
static uint32_t seen[4][CELLS];
static gate doors;
static volatile bool over;

/* One step of a thread in one cell. */
static void (*step)(int number, int cell);
/* Whether a cell's outcome is forbidden. */
static bool (*forbidden)(int cell);
static int players;

/* The threads run down the cells at their own pace, wait for each other, and look at what each has seen. */
static void play(int number)
{
    uint64_t state = seed_of(number);
    for (;;) {
        pass(&doors, players);
        if (over) {
            return;
        }
        for (int wait = next_random(&state) % 64; wait > 0; wait--) {
            relax();
        }
        for (int i = 0; i < CELLS; i++) {
            step(number, i * STRIDE);
        }
        pass(&doors, players);
        if (number == 0) {
            for (int i = 0; i < CELLS; i++) {
                if (forbidden(i)) {
                    fail("cell %d: seen %u %u %u %u", i, seen[0][i], seen[1][i], seen[2][i], seen[3][i]);
                }
                x[i * STRIDE] = y[i * STRIDE] = 0;
            }
            counted(CELLS);
            over = !running();
        }
    }
}

static void run(int n, void (*what)(int, int), bool (*never)(int))
{
    players = n;
    step = what;
    forbidden = never;
    run_threads(n, play);
}

#define AT(number) ((number) == 0 ? x : y)

static void sb_mfence(int number, int cell)
{
    AT(number)[cell] = 1;
    __asm__ volatile("mfence" : : : "memory");
    seen[number][cell / STRIDE] = AT(1 - number)[cell];
}
static void sb_locked(int number, int cell)
{
    static __thread uint32_t own;
    AT(number)[cell] = 1;
    __asm__ volatile("lock orl $0, %0" : "+m"(own) : : "memory", "cc");
    seen[number][cell / STRIDE] = AT(1 - number)[cell];
}
static void sb_xchg(int number, int cell)
{
    uint32_t one = 1;
    __asm__ volatile("xchgl %0, %1" : "+r"(one), "+m"(AT(number)[cell]) : : "memory");
    seen[number][cell / STRIDE] = AT(1 - number)[cell];
}
static bool both_zero(int i) { return seen[0][i] == 0 && seen[1][i] == 0; }

static void mp(int number, int cell)
{
    if (number == 0) {
        x[cell] = 1;
        y[cell] = 1;
    } else {
        seen[0][cell / STRIDE] = y[cell];
        seen[1][cell / STRIDE] = x[cell];
    }
}
static bool flag_without_data(int i) { return seen[0][i] == 1 && seen[1][i] == 0; }

static void mp_nontemporal(int number, int cell)
{
    if (number == 0) {
        __asm__ volatile("movnti %1, %0\n\tsfence" : "=m"(x[cell]) : "r"(1) : "memory");
        y[cell] = 1;
    } else {
        mp(number, cell);
    }
}

static void lb(int number, int cell)
{
    seen[number][cell / STRIDE] = AT(number)[cell];
    AT(1 - number)[cell] = 1;
}
static bool both_one(int i) { return seen[0][i] == 1 && seen[1][i] == 1; }

static void iriw(int number, int cell)
{
    int i = cell / STRIDE;
    if (number < 2) {
        AT(number)[cell] = 1;
    } else {
        seen[(number - 2) * 2][i] = AT(number - 2)[cell];
        seen[(number - 2) * 2 + 1][i] = AT(3 - number)[cell];
    }
}
static bool two_orders(int i) { return seen[0][i] == 1 && seen[1][i] == 0 && seen[2][i] == 1 && seen[3][i] == 0; }

static void corr(int number, int cell)
{
    if (number == 0) {
        x[cell] = 1;
        x[cell] = 2;
    } else {
        seen[0][cell / STRIDE] = x[cell];
        seen[1][cell / STRIDE] = x[cell];
    }
}
static bool backwards(int i) { return seen[1][i] < seen[0][i]; }

/* x = 1, y = 1 and x = 2, y = 2 in the other order: the last word cannot be the first one's in both. */
static void two_writes(int number, int cell)
{
    AT(number)[cell] = 1;
    AT(1 - number)[cell] = 2;
}
static bool both_first(int i) { return x[i * STRIDE] == 1 && y[i * STRIDE] == 1; }

static void part_sb_mfence(void) { run(2, sb_mfence, both_zero); }
static void part_sb_locked(void) { run(2, sb_locked, both_zero); }
static void part_sb_xchg(void) { run(2, sb_xchg, both_zero); }
static void part_mp(void) { run(2, mp, flag_without_data); }
static void part_mp_nt(void) { run(2, mp_nontemporal, flag_without_data); }
static void part_lb(void) { run(2, lb, both_one); }
static void part_iriw(void) { run(4, iriw, two_orders); }
static void part_corr(void) { run(2, corr, backwards); }
static void part_2w(void) { run(2, two_writes, both_first); }

/* What string instructions have written is there before the flag that is stored behind them. */
static uint8_t target[3 * PAGE], source[3 * PAGE];
static volatile uint32_t flag, answer;

static void strings(int number)
{
    uint64_t state = seed_of(0);
    for (uint32_t round = 1;; round++) {
        size_t at = next_random(&state) % PAGE, size = next_random(&state) % (PAGE + 512) + 8;
        if (number == 0) {
            void *to = target + at, *from = source + at / 2;
            size_t n = round % 4 < 2 ? size : size / 8;
            memset(source + at / 2, round, round % 2 == 0 ? size : 0);
            over = !running();
            switch (round % 4) {
            case 0: __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory"); break;
            case 1: __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(round) : "memory"); break;
            case 2: __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory"); break;
            default: __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(round % 256 * 0x0101010101010101) : "memory"); break;
            }
            flag = round;
            while (answer != round) {
                relax();
            }
        } else {
            while (flag != round) {
                relax();
            }
            size &= round % 4 < 2 ? ~0ul : ~7ul;
            for (size_t i = size; i-- > 0;) {
                if (target[at + i] != (uint8_t)round) {
                    fail("round %u: byte %zu of %zu is %x", round, i, size, target[at + i]);
                }
            }
            counted(1);
            bool last = over;
            answer = round;
            if (last) {
                return;
            }
            continue;
        }
        if (over) {
            return;
        }
    }
}
static void part_strings(void) { run_threads(2, strings); }

const part order_parts[] = {
    {"order-sb-mfence", part_sb_mfence}, {"order-sb-locked", part_sb_locked}, {"order-sb-xchg", part_sb_xchg},
    {"order-mp", part_mp},               {"order-mp-nontemporal", part_mp_nt}, {"order-lb", part_lb},
    {"order-iriw", part_iriw},           {"order-corr", part_corr},           {"order-2+2w", part_2w},
    {"order-strings", part_strings},     {NULL, NULL},
};

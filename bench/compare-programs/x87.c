/* Extended precision: a rational map, its square roots, and an array in memory. Sums, products, quotients and roots only, as those
   are rounded the same everywhere. */
#include <string.h>
#include "programs.h"

enum { STEPS = 8000, FIELD = 64, OPS_OF_STEP = 10 };

static long double field[FIELD];

static void run(void)
{
    long double x = 0.75L, y = 0.25L;
    memset(field, 0, sizeof field);
    for (int i = 0; i < STEPS; i++) {
        long double old = field[i % FIELD];
        x = (x * x + 1.375L) / (x + y + 1);
        long double root = x * y + 0.5L;
        /* The compiler's own would bring the mathematics library, for errno. */
        __asm__("fsqrt" : "+t"(root));
        y = root - 0.25L;
        field[i % FIELD] = old * 0.5L + x;
    }
}

static uint64_t checksum(void)
{
    uint64_t hash = 0;
    for (int i = 0; i < FIELD; i++) {
        if (!(field[i] > 0 && field[i] < 100)) {
            fail("a value far from where the map leads");
        }
        /* Ten bytes are the number, the rest is padding. */
        hash = hash * 31 + hash_bytes(&field[i], 10);
    }

    return hash;
}

const struct program x87 = { .name = "x87", .round = run, .checksum = checksum, .ops = (uint64_t)STEPS * OPS_OF_STEP };

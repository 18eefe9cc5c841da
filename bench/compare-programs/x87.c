/* Extended precision: a quotient of two polynomials at each point of an array, and now and then a root. Sums, products, quotients
   and roots only, as those are rounded the same everywhere. */
#include "programs.h"

enum { POINTS = 2048, TERMS = 8, ROOT_EVERY = 8 };

static long double points[POINTS], values[POINTS];

static void prepare(void)
{
    uint64_t state = 31;
    for (int i = 0; i < POINTS; i++) {
        points[i] = (long double)next_random(&state) / 18446744073709551616.0L;
    }
}

static void run(void)
{
    static const long double above[TERMS] = { 0.125L, 1.5L, 0.75L, 0.3L, 2.25L, 0.6L, 1.1L, 0.9L };
    static const long double below[TERMS] = { 0.5L, 0.7L, 1.25L, 0.2L, 0.35L, 1.75L, 0.45L, 1.0L };
    for (int i = 0; i < POINTS; i++) {
        long double x = points[i], numerator = above[0], denominator = below[0];
        for (int k = 1; k < TERMS; k++) {
            numerator = numerator * x + above[k];
            denominator = denominator * x + below[k];
        }
        numerator /= denominator;
        if (i % ROOT_EVERY == 0) {
            /* The compiler's own would bring the mathematics library, for errno. */
            __asm__("fsqrt" : "+t"(numerator));
        }
        values[i] = numerator;
    }
}

static uint64_t checksum(void)
{
    uint64_t hash = 0;
    for (int i = 0; i < POINTS; i++) {
        if (!(values[i] > 0 && values[i] < 10)) {
            fail("a value that cannot be");
        }
        /* Ten bytes are the number, the rest is padding. */
        hash = hash * 31 + hash_bytes(&values[i], 10);
    }

    return hash;
}

/* One operation is one of arithmetic. */
const struct program x87 = { .name = "x87", .prepare = prepare, .round = run, .checksum = checksum,
    .ops = (uint64_t)POINTS * (4 * (TERMS - 1) + 1) + POINTS / ROOT_EVERY };

/* SHA-256 (FIPS 180-4) of the text. Its constants are roots of primes, computed here rather than listed. */
#include <string.h>
#include "programs.h"

static uint32_t constants[64], initial[8], state[8];

/* The first 32 bits behind the binary point of the root of n, by bisection: 128-bit integers hold the cube of 2^35 and more. */
static uint32_t root_fraction(uint64_t n, int degree)
{
    uint64_t low = 0, high = (uint64_t)1 << 38;
    while (high - low > 1) {
        uint64_t middle = (low + high) / 2;
        unsigned __int128 power = (unsigned __int128)middle * middle, target = (unsigned __int128)n << 64;
        if (degree == 3) {
            /* Cubes at full scale need 38 * 3 = 114 bits. */
            power *= middle;
            target <<= 32;
        }
        if (power <= target) {
            low = middle;
        } else {
            high = middle;
        }
    }

    return (uint32_t)low;
}

static void prepare(void)
{
    int count = 0;
    for (uint64_t n = 2; count < 64; n++) {
        uint64_t divisor = 2;
        while (divisor * divisor <= n && n % divisor != 0) {
            divisor++;
        }
        if (divisor * divisor > n) {
            constants[count] = root_fraction(n, 3);
            if (count < 8) {
                initial[count] = root_fraction(n, 2);
            }
            count++;
        }
    }

    make_text();
}

static inline uint32_t rotate(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

static void block(const uint8_t *bytes)
{
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        uint32_t word;
        memcpy(&word, bytes + 4 * i, 4);
        w[i] = __builtin_bswap32(word);
    }

    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }

    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }

    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

static void run(void)
{
    /* The text is a whole number of blocks: the padding is one more. */
    uint8_t padding[64] = { 0x80 };
    uint64_t bits = __builtin_bswap64((uint64_t)TEXT_SIZE * 8);
    memcpy(padding + 56, &bits, 8);
    memcpy(state, initial, sizeof state);
    for (int at = 0; at < TEXT_SIZE; at += 64) {
        block(text + at);
    }
    block(padding);
}

/* The first eight bytes of the digest. */
static uint64_t checksum(void)
{
    return (uint64_t)state[0] << 32 | state[1];
}

const struct program sha256 = { .name = "sha256", .prepare = prepare, .round = run, .checksum = checksum, .ops = TEXT_SIZE };

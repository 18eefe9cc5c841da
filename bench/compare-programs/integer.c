/* Integer code of six kinds: an interpreter's dispatch, a sort, a hash table, a table CRC, recursion, multiply and divide. */
#include <string.h>
#include "programs.h"

enum { SORTED = 4096, SLOTS = 8192, KEYS = 4096, MESSAGE = 32768, EXPONENTS = 400, COLLATZ = 400 };

static uint32_t numbers[SORTED], crc_table[256];
static uint64_t slots[SLOTS][2];
static uint8_t message[MESSAGE];
static uint64_t sum;

enum op { LOAD, EVEN, HALVE, TRIPLE, COUNT, JUMP, UNTIL_ONE, STOP };

/* Length of a number's Collatz row, by a little machine's program. */
static uint64_t interpret(const uint8_t *code, uint64_t start)
{
    uint64_t value = 0, steps = 0;
    for (size_t at = 0;;) {
        switch ((enum op)code[at]) {
        case LOAD: value = start; at++; break;
        case EVEN: at = value % 2 == 0 ? at + 2 : code[at + 1]; break;
        case HALVE: value /= 2; at++; break;
        case TRIPLE: value = 3 * value + 1; at++; break;
        case COUNT: steps++; at++; break;
        case JUMP: at = code[at + 1]; break;
        case UNTIL_ONE: at = value == 1 ? at + 2 : code[at + 1]; break;
        case STOP: return steps;
        }
    }
}

static void collatz(void)
{
    static const uint8_t code[] = { LOAD, EVEN, 6, HALVE, JUMP, 7, TRIPLE, COUNT, UNTIL_ONE, 1, STOP };
    for (uint64_t i = 1; i <= COLLATZ; i++) {
        sum = sum * 31 + interpret(code, i);
    }
}

static void sort(uint32_t *from, uint32_t *to)
{
    while (to - from > 12) {
        uint32_t pivot = from[(to - from) / 2], *low = from, *high = to - 1;
        while (low <= high) {
            while (*low < pivot) {
                low++;
            }
            while (*high > pivot) {
                high--;
            }
            if (low <= high) {
                uint32_t kept = *low;
                *low++ = *high;
                *high-- = kept;
            }
        }
        sort(from, high + 1);
        from = low;
    }

    for (uint32_t *next = from + 1; next < to; next++) {
        uint32_t value = *next, *hole = next;
        for (; hole > from && hole[-1] > value; hole--) {
            *hole = hole[-1];
        }
        *hole = value;
    }
}

static void sort_numbers(void)
{
    uint64_t state = 77;
    for (int i = 0; i < SORTED; i++) {
        numbers[i] = (uint32_t)next_random(&state);
    }

    sort(numbers, numbers + SORTED);
    for (int i = 1; i < SORTED; i++) {
        if (numbers[i - 1] > numbers[i]) {
            fail("the sorted numbers are not in order");
        }
    }

    sum = sum * 31 + numbers[SORTED / 3];
}

static uint64_t *find(uint64_t key)
{
    size_t slot = (key * 0x9E3779B97F4A7C15) >> 51;
    while (slots[slot][0] != 0 && slots[slot][0] != key) {
        slot = (slot + 1) % SLOTS;
    }

    slots[slot][0] = key;
    return &slots[slot][1];
}

static void fill_table(void)
{
    uint64_t state = 99;
    memset(slots, 0, sizeof slots);
    for (int i = 0; i < KEYS; i++) {
        *find(next_random(&state) | 1) += (uint64_t)i;
    }

    state = 99;
    for (int i = 0; i < KEYS; i++) {
        sum = sum * 31 + *find(next_random(&state) | 1);
    }
}

static void crc(void)
{
    uint32_t value = ~0u;
    for (int i = 0; i < MESSAGE; i++) {
        value = crc_table[(value ^ message[i]) & 0xFF] ^ (value >> 8);
    }

    sum = sum * 31 + ~value;
}

static __attribute__((noinline)) uint64_t fibonacci(unsigned n)
{
    /* A barrier, or the compiler makes loops of most of the calls. */
    __asm__ volatile("" : "+r"(n));
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static void powers(void)
{
    for (uint64_t i = 0; i < EXPONENTS; i++) {
        uint64_t modulus = 1000003 + 2 * i, base = 5 + i, result = 1;
        for (uint64_t exponent = modulus - 1; exponent != 0; exponent >>= 1) {
            if (exponent & 1) {
                result = result * base % modulus;
            }
            base = base * base % modulus;
        }
        sum = sum * 31 + result;
    }
}

static void prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) {
            value = (value >> 1) ^ (value & 1 ? 0xEDB88320 : 0);
        }
        crc_table[i] = value;
    }

    for (int i = 0; i < MESSAGE; i++) {
        message[i] = (uint8_t)(i * 7 + (i >> 8));
    }
}

static void run(void)
{
    sum = 0;
    collatz();
    sort_numbers();
    fill_table();
    crc();
    sum = sum * 31 + fibonacci(18);
    powers();
}

static uint64_t checksum(void)
{
    return sum;
}

const struct program integer = { .name = "integer", .prepare = prepare, .round = run, .checksum = checksum, .ops = 1 };

/* Inflates raw DEFLATE (RFC 1951): a table by the next bits of the input, and a walk by lengths for codes that are longer. */
#include <string.h>
#include "programs.h"

enum { FAST = 10, LONGEST_CODE = 15, LITERALS = 288, DISTANCES = 32, LENGTH_CODES = 19, END = 256 };

struct reader {
    const uint8_t *at, *end;
    uint64_t bits;
    int count;
};

struct table {
    /* Symbol << 4 | length of its code; 0 where the code is longer than FAST. */
    uint16_t fast[1 << FAST];
    uint16_t used[LONGEST_CODE + 1], sorted[LITERALS];
};

static inline void refill(struct reader *r)
{
    if (r->end - r->at >= 8) {
        uint64_t next;
        memcpy(&next, r->at, 8);
        r->bits |= next << r->count;
        /* Whole bytes that have found room; the bits above them are put there again, the same, next time. */
        r->at += (63 - r->count) >> 3;
        r->count |= 56;
        return;
    }

    while (r->count <= 56) {
        /* Zeros behind the end: a broken input runs into codes that are none, or fills its output. */
        r->bits |= (uint64_t)(r->at < r->end ? *r->at++ : 0) << r->count;
        r->count += 8;
    }
}

static inline uint32_t take(struct reader *r, int count)
{
    uint32_t value = (uint32_t)(r->bits & (((uint64_t)1 << count) - 1));
    r->bits >>= count;
    r->count -= count;
    return value;
}

static void make_table(struct table *t, const uint8_t *lengths, int count)
{
    uint16_t next[LONGEST_CODE + 2] = { 0 }, first[LONGEST_CODE + 2] = { 0 };
    memset(t, 0, sizeof *t);
    for (int i = 0; i < count; i++) {
        t->used[lengths[i]]++;
    }
    t->used[0] = 0;
    for (int i = 1; i <= LONGEST_CODE; i++) {
        first[i] = (uint16_t)(first[i - 1] + t->used[i - 1]);
        next[i] = (uint16_t)((next[i - 1] + t->used[i - 1]) << 1);
    }

    for (int i = 0; i < count; i++) {
        int length = lengths[i];
        if (length == 0) {
            continue;
        }
        t->sorted[first[length]++] = (uint16_t)i;
        uint32_t code = next[length]++, turned = 0;
        for (int k = 0; k < length; k++) {
            turned = turned << 1 | (code >> k & 1);
        }
        for (uint32_t k = turned; length <= FAST && k < 1 << FAST; k += 1u << length) {
            t->fast[k] = (uint16_t)(i << 4 | length);
        }
    }
}

static inline uint32_t symbol(struct reader *r, const struct table *t)
{
    uint16_t entry = t->fast[r->bits & ((1 << FAST) - 1)];
    if (entry != 0) {
        take(r, entry & 15);
        return entry >> 4;
    }

    uint32_t code = 0, first = 0, index = 0;
    for (int length = 1; length <= LONGEST_CODE; length++) {
        code |= take(r, 1);
        if (code - first < t->used[length]) {
            return t->sorted[index + code - first];
        }
        index += t->used[length];
        first = (first + t->used[length]) << 1;
        code <<= 1;
    }

    fail("a code that is none");
}

static void read_codes(struct reader *r, struct table *literals, struct table *distances)
{
    static const uint8_t order[LENGTH_CODES] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
    uint8_t lengths[LITERALS + DISTANCES + 138] = { 0 };
    refill(r);
    int literal_count = 257 + (int)take(r, 5), distance_count = 1 + (int)take(r, 5), length_count = 4 + (int)take(r, 4);
    for (int i = 0; i < length_count; i++) {
        refill(r);
        lengths[order[i]] = (uint8_t)take(r, 3);
    }
    make_table(literals, lengths, LENGTH_CODES);
    memset(lengths, 0, sizeof lengths);
    for (int i = 0; i < literal_count + distance_count;) {
        refill(r);
        uint32_t item = symbol(r, literals);
        if (item < 16) {
            lengths[i++] = (uint8_t)item;
        } else {
            uint8_t value = item == 16 && i > 0 ? lengths[i - 1] : 0;
            uint32_t run = item == 16 ? 3 + take(r, 2) : item == 17 ? 3 + take(r, 3) : 11 + take(r, 7);
            memset(lengths + i, value, run);
            i += (int)run;
        }
    }
    make_table(literals, lengths, literal_count);
    make_table(distances, lengths + literal_count, distance_count);
}

/* Base and extra bits of each length and distance code (RFC 1951, 3.2.5). */
static uint16_t length_base[29], distance_base[30];
static uint8_t length_extra[29], distance_extra[30];

static void make_bases(void)
{
    uint32_t length = 3, distance = 1;
    for (int i = 0; i < 28; i++) {
        length_base[i] = (uint16_t)length;
        length_extra[i] = (uint8_t)(i < 8 ? 0 : i / 4 - 1);
        length += 1u << length_extra[i];
    }
    length_base[28] = 258;
    for (int i = 0; i < 30; i++) {
        distance_base[i] = (uint16_t)distance;
        distance_extra[i] = (uint8_t)(i < 4 ? 0 : i / 2 - 1);
        distance += 1u << distance_extra[i];
    }
}

static uint8_t *copy_match(struct reader *r, uint32_t code, const struct table *distances, uint8_t *start, uint8_t *to, uint8_t *end)
{
    uint32_t length = length_base[code - 257] + take(r, length_extra[code - 257]);
    uint32_t slot = symbol(r, distances);
    uint32_t distance = slot < 30 ? distance_base[slot] + take(r, distance_extra[slot]) : 0;
    if (distance == 0 || distance > (size_t)(to - start) || length > (size_t)(end - to)) {
        fail("a match that leads nowhere");
    }

    const uint8_t *from = to - distance;
    uint8_t *match_end = to + length;
    if (distance >= length) {
        memcpy(to, from, length);
    } else {
        while (to < match_end) {
            *to++ = *from++;
        }
    }

    return match_end;
}

size_t inflate_bytes(const uint8_t *input, size_t size, uint8_t *output, size_t capacity)
{
    static struct table literals, distances;
    struct reader r = { input, input + size, 0, 0 };
    uint8_t *to = output, *end = output + capacity;
    uint32_t header;
    make_bases();
    do {
        refill(&r);
        header = take(&r, 3);
        if (header >> 1 != 2) {
            fail("a block of a kind that deflate.c never writes");
        }
        read_codes(&r, &literals, &distances);
        for (;;) {
            refill(&r);
            uint32_t code = symbol(&r, &literals);
            if (code < END) {
                if (to == end) {
                    fail("more text than there was");
                }
                *to++ = (uint8_t)code;
            } else if (code == END) {
                break;
            } else if (code > 285) {
                fail("a length that is none");
            } else {
                to = copy_match(&r, code, &distances, output, to, end);
            }
        }
    } while ((header & 1) == 0);

    return (size_t)(to - output);
}

static uint8_t deflated[TEXT_SIZE + 1024], inflated[TEXT_SIZE];
static size_t deflated_size, inflated_size;

static void prepare(void)
{
    make_text();
    deflated_size = deflate_bytes(text, TEXT_SIZE, deflated, sizeof deflated);
}

static void run(void)
{
    inflated_size = inflate_bytes(deflated, deflated_size, inflated, sizeof inflated);
}

static uint64_t checksum(void)
{
    if (inflated_size != TEXT_SIZE || memcmp(text, inflated, TEXT_SIZE) != 0) {
        fail("the text does not come back");
    }

    return hash_bytes(inflated, inflated_size);
}

const struct program inflate = { .name = "inflate", .prepare = prepare, .round = run, .checksum = checksum, .ops = TEXT_SIZE };

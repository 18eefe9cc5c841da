/* DEFLATE (RFC 1951): LZ77 by hash chains with one step of lazy matching, blocks with Huffman codes of their own. */
#include <string.h>
#include "programs.h"

enum {
    WINDOW = 32768, SHORTEST = 3, LONGEST = 258, HASH_BITS = 15, CHAIN = 48,
    SYMBOLS = 16384, LITERALS = 286, DISTANCES = 30, LENGTH_CODES = 19, END = 256,
};

struct writer {
    uint8_t *at, *end;
    uint64_t bits;
    int count;
};

struct code {
    uint8_t lengths[LITERALS];
    uint16_t bits[LITERALS];
};

static int32_t head[1 << HASH_BITS], previous[WINDOW];
/* A match as distance << 16 | length; a literal alone. */
static uint32_t symbols[SYMBOLS];

static void put(struct writer *w, uint32_t value, int count)
{
    w->bits |= (uint64_t)value << w->count;
    w->count += count;
    while (w->count >= 8) {
        if (w->at == w->end) {
            fail("the deflated text does not fit");
        }
        *w->at++ = (uint8_t)w->bits;
        w->bits >>= 8;
        w->count -= 8;
    }
}

/* Code of a length or distance, the extra bits and their number (RFC 1951, 3.2.5): codes double their range every 4 or 2. */
static uint32_t length_code(uint32_t length, uint32_t *extra, int *extra_bits)
{
    uint32_t value = length - SHORTEST;
    *extra = 0;
    *extra_bits = 0;
    if (length == LONGEST) {
        return 285;
    }
    if (value < 8) {
        return 257 + value;
    }

    int shift = 29 - __builtin_clz(value);
    *extra_bits = shift;
    *extra = value & ((1u << shift) - 1);
    return 257 + (uint32_t)shift * 4 + (value >> shift);
}

static uint32_t distance_code(uint32_t distance, uint32_t *extra, int *extra_bits)
{
    uint32_t value = distance - 1;
    *extra = 0;
    *extra_bits = 0;
    if (value < 4) {
        return value;
    }

    int shift = 30 - __builtin_clz(value);
    *extra_bits = shift;
    *extra = value & ((1u << shift) - 1);
    return (uint32_t)shift * 2 + (value >> shift);
}

/* Lengths of a Huffman code; false where one would be longer than the limit. */
static int try_lengths(const uint32_t *weights, int count, int limit, uint8_t *lengths)
{
    uint32_t weight[2 * LITERALS];
    int16_t parent[2 * LITERALS], queue[LITERALS];
    int leaves = 0;
    memset(lengths, 0, (size_t)count);
    for (int i = 0; i < count; i++) {
        if (weights[i] != 0) {
            int k = leaves++;
            for (; k > 0 && weights[queue[k - 1]] > weights[i]; k--) {
                queue[k] = queue[k - 1];
            }
            queue[k] = (int16_t)i;
        }
    }

    if (leaves == 1) {
        lengths[queue[0]] = 1;
        return 1;
    }

    /* Two sorted queues: leaves, and inner nodes, which come into being in the order of their weights. */
    int leaf = 0, inner = leaves, nodes = leaves;
    for (int i = 0; i < leaves; i++) {
        weight[i] = weights[queue[i]];
    }
    while (nodes < 2 * leaves - 1) {
        weight[nodes] = 0;
        for (int k = 0; k < 2; k++) {
            int least = inner >= nodes || (leaf < leaves && weight[leaf] <= weight[inner]) ? leaf++ : inner++;
            weight[nodes] += weight[least];
            parent[least] = (int16_t)nodes;
        }
        nodes++;
    }

    uint8_t depth[2 * LITERALS];
    depth[nodes - 1] = 0;
    for (int i = nodes - 2; i >= 0; i--) {
        depth[i] = depth[parent[i]] + 1;
        if (i < leaves) {
            if (depth[i] > limit) {
                return 0;
            }
            lengths[queue[i]] = depth[i];
        }
    }

    return 1;
}

static void make_code(uint32_t *weights, int count, int limit, struct code *code)
{
    /* Flatter weights give a flatter tree. */
    while (!try_lengths(weights, count, limit, code->lengths)) {
        for (int i = 0; i < count; i++) {
            weights[i] = (weights[i] + 1) / 2;
        }
    }

    uint16_t used[16] = { 0 }, next[16] = { 0 };
    for (int i = 0; i < count; i++) {
        used[code->lengths[i]]++;
    }
    used[0] = 0;
    for (int i = 1; i < 16; i++) {
        next[i] = (uint16_t)((next[i - 1] + used[i - 1]) << 1);
    }

    for (int i = 0; i < count; i++) {
        /* Codes go out highest bit first. */
        uint16_t value = next[code->lengths[i]]++, turned = 0;
        for (int k = 0; k < code->lengths[i]; k++) {
            turned = (uint16_t)(turned << 1 | (value >> k & 1));
        }
        code->bits[i] = turned;
    }
}

static void put_symbol(struct writer *w, const struct code *code, uint32_t symbol)
{
    put(w, code->bits[symbol], code->lengths[symbol]);
}

/* The lengths of both codes in a code of their own, runs of zeros shortened (RFC 1951, 3.2.7). */
static void put_codes(struct writer *w, const struct code *literals, const struct code *distances)
{
    static const uint8_t order[LENGTH_CODES] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
    uint8_t all[LITERALS + DISTANCES], run[LITERALS + DISTANCES], item[LITERALS + DISTANCES];
    memcpy(all, literals->lengths, LITERALS);
    memcpy(all + LITERALS, distances->lengths, DISTANCES);
    uint32_t weights[LENGTH_CODES] = { 0 };
    int items = 0;
    for (int i = 0; i < LITERALS + DISTANCES;) {
        int zeros = 0;
        while (i + zeros < LITERALS + DISTANCES && all[i + zeros] == 0 && zeros < 138) {
            zeros++;
        }
        item[items] = zeros >= 11 ? 18 : zeros >= 3 ? 17 : all[i];
        run[items] = (uint8_t)zeros;
        i += zeros >= 3 ? zeros : 1;
        weights[item[items++]]++;
    }

    struct code code;
    make_code(weights, LENGTH_CODES, 7, &code);
    put(w, LITERALS - 257, 5);
    put(w, DISTANCES - 1, 5);
    put(w, LENGTH_CODES - 4, 4);
    for (int i = 0; i < LENGTH_CODES; i++) {
        put(w, code.lengths[order[i]], 3);
    }
    for (int i = 0; i < items; i++) {
        put_symbol(w, &code, item[i]);
        if (item[i] >= 17) {
            put(w, item[i] == 18 ? run[i] - 11u : run[i] - 3u, item[i] == 18 ? 7 : 3);
        }
    }
}

static void put_block(struct writer *w, int count, int is_last)
{
    uint32_t literal_weights[LITERALS] = { [END] = 1 }, distance_weights[DISTANCES] = { 0 }, extra;
    struct code literals, distances;
    int extra_bits, matches = 0;
    for (int i = 0; i < count; i++) {
        if (symbols[i] < 256) {
            literal_weights[symbols[i]]++;
        } else {
            matches++;
            literal_weights[length_code(symbols[i] & 0xFFFF, &extra, &extra_bits)]++;
            distance_weights[distance_code(symbols[i] >> 16, &extra, &extra_bits)]++;
        }
    }

    /* A code without symbols can't be written down. */
    distance_weights[0] += matches == 0;
    make_code(literal_weights, LITERALS, 15, &literals);
    make_code(distance_weights, DISTANCES, 15, &distances);
    put(w, (uint32_t)is_last | 2 << 1, 3);
    put_codes(w, &literals, &distances);
    for (int i = 0; i < count; i++) {
        if (symbols[i] < 256) {
            put_symbol(w, &literals, symbols[i]);
        } else {
            put_symbol(w, &literals, length_code(symbols[i] & 0xFFFF, &extra, &extra_bits));
            put(w, extra, extra_bits);
            put_symbol(w, &distances, distance_code(symbols[i] >> 16, &extra, &extra_bits));
            put(w, extra, extra_bits);
        }
    }
    put_symbol(w, &literals, END);
}

/* Puts a position in front of the chain of those that begin with the same bytes; gives the one before it, or a negative number. */
static int32_t insert(const uint8_t *at, int32_t position)
{
    uint32_t slot = (at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16) * 0x9E3779B1u >> (32 - HASH_BITS);
    int32_t old = head[slot];
    previous[position % WINDOW] = old;
    head[slot] = position;
    return old;
}

static uint32_t common(const uint8_t *x, const uint8_t *y, uint32_t limit)
{
    uint32_t length = 0;
    for (; length + 8 <= limit; length += 8) {
        uint64_t a, b;
        memcpy(&a, x + length, 8);
        memcpy(&b, y + length, 8);
        if (a != b) {
            return length + ((uint32_t)__builtin_ctzll(a ^ b) >> 3);
        }
    }
    while (length < limit && x[length] == y[length]) {
        length++;
    }

    return length;
}

/* The longest earlier match at a position, which joins its chain; 0 where there is none. */
static uint32_t match(const uint8_t *input, size_t size, size_t at, uint32_t *distance)
{
    if (size - at < SHORTEST) {
        return 0;
    }

    uint32_t best = SHORTEST - 1, limit = size - at < LONGEST ? (uint32_t)(size - at) : LONGEST;
    int32_t candidate = insert(input + at, (int32_t)at);
    for (int i = 0; i < CHAIN && candidate >= 0 && at - (size_t)candidate < WINDOW; i++) {
        const uint8_t *old = input + candidate;
        if (old[best] == input[at + best]) {
            uint32_t length = common(old, input + at, limit);
            if (length > best) {
                best = length;
                *distance = (uint32_t)(at - (size_t)candidate);
                if (best == limit) {
                    break;
                }
            }
        }
        candidate = previous[candidate % WINDOW];
    }

    return best < SHORTEST ? 0 : best;
}

size_t deflate_bytes(const uint8_t *input, size_t size, uint8_t *output, size_t capacity)
{
    struct writer w = { output, output + capacity, 0, 0 };
    int count = 0;
    memset(head, 0xFF, sizeof head);
    uint32_t distance = 0, next_distance = 0;
    uint32_t length = match(input, size, 0, &distance);
    for (size_t at = 0; at < size;) {
        uint32_t next_length = at + 1 < size ? match(input, size, at + 1, &next_distance) : 0;
        if (length == 0 || next_length > length) {
            symbols[count++] = input[at++];
        } else {
            symbols[count++] = distance << 16 | length;
            /* The position behind the match's first byte has been looked at. */
            for (size_t k = at + 2; k < at + length && size - k >= SHORTEST; k++) {
                insert(input + k, (int32_t)k);
            }
            at += length;
            next_length = at < size ? match(input, size, at, &next_distance) : 0;
        }
        length = next_length;
        distance = next_distance;
        if (count == SYMBOLS) {
            put_block(&w, count, at == size);
            count = at == size ? -1 : 0;
        }
    }
    if (count >= 0) {
        put_block(&w, count, 1);
    }
    put(&w, 0, 7);
    return (size_t)(w.at - output);
}

static uint8_t deflated[TEXT_SIZE + 1024], again[TEXT_SIZE];
static size_t deflated_size;

static void run(void)
{
    deflated_size = deflate_bytes(text, TEXT_SIZE, deflated, sizeof deflated);
}

static uint64_t checksum(void)
{
    if (inflate_bytes(deflated, deflated_size, again, sizeof again) != TEXT_SIZE || memcmp(text, again, TEXT_SIZE) != 0) {
        fail("the text does not come back");
    }

    return hash_bytes(deflated, deflated_size);
}

const struct program deflate = { .name = "deflate", .prepare = make_text, .round = run, .checksum = checksum, .ops = TEXT_SIZE };

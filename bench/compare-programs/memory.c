/* Memory in pages of 4 KiB: a copy of 64 MiB, first and later touches of 64 MiB, a chase of pointers through 8 MiB. */
#include <string.h>
#include <sys/mman.h>
#include "programs.h"

enum { PAGE = 4096, NODE = 64 };
static const size_t Large = (size_t)64 << 20;
static const size_t Nodes = ((size_t)8 << 20) / NODE;
static const size_t Hops = 100000;

static uint8_t *from, *to;
static uint64_t sum;

static void prepare_copy(void)
{
    uint64_t state = 11, block[PAGE / 8];
    for (int i = 0; i < PAGE / 8; i++) {
        block[i] = next_random(&state);
    }

    from = small_pages(Large);
    to = small_pages(Large);
    for (size_t at = 0; at < Large; at += PAGE) {
        block[0] = at;
        memcpy(from + at, block, PAGE);
    }
}

static void copy(void)
{
    memcpy(to, from, Large);
    /* Or the compiler may leave out a copy that the next one hides. */
    __asm__ volatile("" ::: "memory");
}

static uint64_t check_copy(void)
{
    if (memcmp(from, to, Large) != 0) {
        fail("the copy differs");
    }

    uint64_t pages = 0;
    for (size_t at = 0; at < Large; at += PAGE) {
        pages = pages * 31 + *(uint64_t *)(to + at);
    }

    /* The next rounds have to write it again. */
    memset(to, 0, Large);
    return pages;
}

static void touch_pages(uint8_t *memory, size_t size)
{
    for (size_t at = 0; at < size; at += PAGE) {
        volatile uint64_t *word = (volatile uint64_t *)(memory + at);
        uint64_t old = *word;
        *word = old + 1;
        sum += old + 1;
    }
}

static void touch_fresh(void)
{
    sum = 0;
    uint8_t *memory = small_pages(Large);
    touch_pages(memory, Large);
    munmap(memory, Large);
}

static uint64_t check_touch(void)
{
    if (sum != Large / PAGE) {
        fail("a fresh page was not zero");
    }

    return sum;
}

static void prepare_touch_again(void)
{
    from = small_pages(Large);
    touch_pages(from, Large);
}

static void touch_present(void)
{
    sum = 0;
    touch_pages(from, Large);
}

static uint64_t check_touch_again(void)
{
    /* All pages have been touched equally often: this many rounds. */
    uint64_t touches = *(uint64_t *)from;
    if (sum != touches * (Large / PAGE)) {
        fail("a page has lost a write");
    }

    return sum / touches;
}

/* One cycle through all nodes in random order (Sattolo's shuffle). */
static void prepare_chase(void)
{
    static uint32_t order[((size_t)8 << 20) / NODE];
    uint64_t state = 5;
    for (size_t i = 0; i < Nodes; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t i = Nodes - 1; i > 0; i--) {
        size_t k = next_random(&state) % i;
        uint32_t kept = order[i];
        order[i] = order[k];
        order[k] = kept;
    }

    from = small_pages(Nodes * NODE);
    for (size_t i = 0; i < Nodes; i++) {
        *(uint8_t **)(from + (size_t)order[i] * NODE) = from + (size_t)order[(i + 1) % Nodes] * NODE;
    }
}

static void chase_nodes(void)
{
    uint8_t *at = from;
    for (size_t i = 0; i < Hops; i++) {
        at = *(uint8_t **)at;
    }

    sum = (uint64_t)(at - from) / NODE;
}

static uint64_t chase_end(void)
{
    return sum;
}

const struct program memory_copy =
    { .name = "memcpy", .prepare = prepare_copy, .round = copy, .checksum = check_copy, .ops = (uint64_t)64 << 20 };
const struct program touch = { .name = "touch", .round = touch_fresh, .checksum = check_touch, .ops = ((uint64_t)64 << 20) / PAGE };
const struct program touch_again = { .name = "touch-again", .prepare = prepare_touch_again, .round = touch_present,
    .checksum = check_touch_again, .ops = ((uint64_t)64 << 20) / PAGE };
const struct program chase = { .name = "chase", .prepare = prepare_chase, .round = chase_nodes, .checksum = chase_end, .ops = 100000 };

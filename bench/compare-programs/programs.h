/* What every benchmark program is made of; main.c measures them all alike. */
#ifndef PROGRAMS_H
#define PROGRAMS_H

#include <stddef.h>
#include <stdint.h>

struct program {
    const char *name;
    /* Does the same work each time it is called; only this is timed. */
    void (*round)(void);
    /* Of what the last round left behind; the same in every place, or the place computes wrongly. */
    uint64_t (*checksum)(void);
    /* Operations of one round: the divisor of the time. */
    uint64_t ops;
    /* Makes inputs; null where there are none. */
    void (*prepare)(void);
    /* Why this processor can't run it, or null; null where any can. */
    const char *(*lacks)(void);
};

extern const struct program integer, sha256, deflate, inflate, matrix_sse2, matrix_avx2, x87, memory_copy, touch, touch_again, chase,
    call_getpid, fork_exec, pipe_round_trip, map_fault_unmap;

/* Ends this program with the line "NAME - failed: ...". */
_Noreturn void fail(const char *what);

/* The path of this executable, for programs that start another. */
extern const char *own_path;

/* Mapped, private, zero memory in pages of 4 KiB: the host's and the guest's kernel may differ in who gets larger ones. */
void *small_pages(size_t size);

/* The next of a fixed row of numbers (xorshift64*). */
uint64_t next_random(uint64_t *state);

/* FNV-1a, 64 bits. */
uint64_t hash_bytes(const void *bytes, size_t size);

/* Text of made-up words, some frequent and some rare, as input for programs that work on bytes. */
enum { TEXT_SIZE = 256 * 1024 };
extern uint8_t text[TEXT_SIZE];
void make_text(void);

/* Raw DEFLATE (RFC 1951). Both give the number of bytes written. */
size_t deflate_bytes(const uint8_t *input, size_t size, uint8_t *output, size_t capacity);
size_t inflate_bytes(const uint8_t *input, size_t size, uint8_t *output, size_t capacity);

#endif

/* Short blocks of random arithmetic, written into memory that may be run, and run with all registers set and read back. */
#pragma once
#include "stress.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, FLAGS = 16, REGISTERS };

/* Flags that every instruction of a block defines; AF is not one of them. */
#define DEFINED_FLAGS 0x8C5

typedef struct {
    uint64_t value[REGISTERS]; /* in the order of their numbers, RSP not used; then RFLAGS */
} registers;

/* Loads the registers, calls the code, and stores the registers. */
void call_block(const void *code, const registers *in, registers *out);

/* Writes n random instructions that change no memory and none of RCX, RSI, RDI and RSP; gives the first byte behind
   them. Notes where each one starts when starts is not null. */
uint8_t *write_arithmetic(uint8_t *to, int n, uint64_t *state, uint8_t **starts);

void random_registers(registers *r, uint64_t *state);

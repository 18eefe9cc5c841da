#include "block.h"
#include <string.h>

/* rdi: code, rsi: in, rdx: out. The stack keeps what the block may spoil. */
__asm__(
    ".text\n.globl call_block\ncall_block:\n\t"
    "pushq %rbx\n\tpushq %rbp\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\tpushq %rdx\n\tpushq %rdi\n\t"
    "pushq 128(%rsi)\n\tpopfq\n\t"
    "movq (%rsi), %rax\n\tmovq 8(%rsi), %rcx\n\tmovq 16(%rsi), %rdx\n\tmovq 24(%rsi), %rbx\n\tmovq 40(%rsi), %rbp\n\t"
    "movq 56(%rsi), %rdi\n\tmovq 64(%rsi), %r8\n\tmovq 72(%rsi), %r9\n\tmovq 80(%rsi), %r10\n\tmovq 88(%rsi), %r11\n\t"
    "movq 96(%rsi), %r12\n\tmovq 104(%rsi), %r13\n\tmovq 112(%rsi), %r14\n\tmovq 120(%rsi), %r15\n\tmovq 48(%rsi), %rsi\n\t"
    "call *(%rsp)\n\t"
    "pushq %rdx\n\tmovq 16(%rsp), %rdx\n\tpushfq\n\tpopq 128(%rdx)\n\tpopq 16(%rdx)\n\t"
    "movq %rax, (%rdx)\n\tmovq %rcx, 8(%rdx)\n\tmovq %rbx, 24(%rdx)\n\tmovq %rbp, 40(%rdx)\n\tmovq %rsi, 48(%rdx)\n\t"
    "movq %rdi, 56(%rdx)\n\tmovq %r8, 64(%rdx)\n\tmovq %r9, 72(%rdx)\n\tmovq %r10, 80(%rdx)\n\tmovq %r11, 88(%rdx)\n\t"
    "movq %r12, 96(%rdx)\n\tmovq %r13, 104(%rdx)\n\tmovq %r14, 112(%rdx)\n\tmovq %r15, 120(%rdx)\n\t"
    "addq $16, %rsp\n\tpopq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbp\n\tpopq %rbx\n\tcld\n\tret\n");

static const uint8_t usable[] = {RAX, RDX, RBX, RBP, 8, 9, 10, 11, 12, 13, 14, 15};

static int any(uint64_t *state) { return usable[next_random(state) % sizeof usable]; }

static uint8_t *write_two(uint8_t *to, uint8_t opcode, int reg, int rm)
{
    *to++ = 0x48 | (reg >= 8 ? 4 : 0) | (rm >= 8 ? 1 : 0);
    *to++ = opcode;
    *to++ = 0xC0 | (reg & 7) << 3 | (rm & 7);
    return to;
}

uint8_t *write_arithmetic(uint8_t *to, int n, uint64_t *state, uint8_t **starts)
{
    /* add, or, adc, sbb, and, sub, xor, cmp, test, mov */
    static const uint8_t pairs[] = {0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x85, 0x89};
    for (int i = 0; i < n; i++) {
        if (starts != NULL) {
            *starts++ = to;
        }
        switch (next_random(state) % 8) {
        case 0: /* inc, dec */
            to = write_two(to, 0xFF, next_random(state) % 2, any(state));
            break;
        case 1: /* shl, shr, sar by one */
            to = write_two(to, 0xD1, "\4\5\7"[next_random(state) % 3], any(state));
            break;
        case 2: /* eight operations with a number of 32 bits */
            to = write_two(to, 0x81, next_random(state) % 8, any(state));
            uint32_t number = next_random(state);
            memcpy(to, &number, 4);
            to += 4;
            break;
        case 3: /* xchg */
            to = write_two(to, 0x87, any(state), any(state));
            break;
        case 4: /* setcc, on the low byte */
            *to = 0x0F;
            int rm = any(state);
            to[0] = rm >= 8 ? 0x41 : 0x40;
            to[1] = 0x0F;
            to[2] = 0x90 | next_random(state) % 16;
            to[3] = 0xC0 | (rm & 7);
            to += 4;
            break;
        default:
            to = write_two(to, pairs[next_random(state) % sizeof pairs], any(state), any(state));
            break;
        }
    }
    return to;
}

void random_registers(registers *r, uint64_t *state)
{
    for (int i = 0; i < 16; i++) {
        r->value[i] = next_random(state) >> (next_random(state) % 3 * 24);
    }
    r->value[FLAGS] = 0x202 | (next_random(state) & DEFINED_FLAGS);
}

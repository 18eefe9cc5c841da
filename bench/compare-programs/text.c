/* Made-up text: words of few letters, the frequent ones drawn far more often, as in a language. */
#include <string.h>
#include "programs.h"

enum { WORDS = 2048, LONGEST = 12 };

uint8_t text[TEXT_SIZE];

void make_text(void)
{
    static char words[WORDS][LONGEST + 1];
    static const char letters[] = "eeeeetttaaaooiinnsshhrrdlucmfwypvbgkqjxz";
    uint64_t state = 0x5EED;
    for (int i = 0; i < WORDS; i++) {
        size_t length = 2 + next_random(&state) % (LONGEST - 2);
        for (size_t k = 0; k < length; k++) {
            words[i][k] = letters[next_random(&state) % (sizeof letters - 1)];
        }
    }

    size_t at = 0;
    while (at < TEXT_SIZE) {
        /* Like people, it often says again what it has said before. */
        if (at > 1000 && next_random(&state) % 6 == 0) {
            size_t length = 8 + next_random(&state) % 40, from = at - 1 - length - next_random(&state) % (at < 20000 ? at - length - 1 : 20000 - length);
            for (size_t k = 0; k < length && at < TEXT_SIZE; k++) {
                text[at++] = text[from++];
            }
        }

        /* A product of two even draws favours low numbers. */
        uint64_t draw = (next_random(&state) % WORDS) * (next_random(&state) % WORDS) / WORDS;
        const char *word = words[draw];
        for (size_t k = 0; word[k] != 0 && at < TEXT_SIZE; k++) {
            text[at++] = (uint8_t)word[k];
        }

        if (at < TEXT_SIZE) {
            text[at++] = next_random(&state) % 12 == 0 ? '\n' : ' ';
        }
    }
}

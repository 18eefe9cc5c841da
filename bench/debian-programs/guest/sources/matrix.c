/* The product of two matrices as it stands in a book: what the compiler makes of it is what is measured. */
#include <stdio.h>

enum { SIZE = 640, TIMES = 9 };

static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

int main(void)
{
    for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = (double)((i * 31 + j * 7) % 101);
            b[i][j] = (double)((i * 13 + j * 29) % 97);
        }
    }

    for (int time = 0; time < TIMES; time++) {
        for (int i = 0; i < SIZE; i++) {
            for (int k = 0; k < SIZE; k++) {
                for (int j = 0; j < SIZE; j++) {
                    c[i][j] += a[i][k] * b[k][j];
                }
            }
        }
    }

    double sum = 0;
    for (int i = 0; i < SIZE; i++) {
        sum += c[i][(i * 7) % SIZE];
    }

    printf("%.1f\n", sum);
    return 0;
}

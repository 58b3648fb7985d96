#include "cli/input/nearest.h"

#include <stddef.h>
#include <string.h>

enum { LONGEST = 31 };

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Letters to change, a neighbour's swap counting as one; words longer than LONGEST are far. */
static int distance(const char *a, const char *b) {
    int row[LONGEST + 1][LONGEST + 1];
    const int n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (!i || !j) {
                row[i][j] = i + j;
                continue;
            }
            row[i][j] = least(row[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
                              least(row[i - 1][j], row[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[i][j] = least(row[i][j], row[i - 2][j - 2] + 1);
        }
    return row[n][m];
}

/* Is one of them the beginning of the other, with two letters at least? */
static int begins(const char *a, const char *b) {
    const size_t n = strlen(a), m = strlen(b), both = n < m ? n : m;
    return both >= 2 && strncmp(a, b, both) == 0;
}

const char *cli_nearest(const char *word, const char *const *names) {
    const char *best = NULL;
    int fewest = (int)strlen(word) / 3 + 1;
    for (; *names; names++) {
        const int far = begins(word, *names) ? 0 : distance(word, *names);
        if (far < fewest) {
            best = *names;
            fewest = far;
        }
    }
    return best;
}

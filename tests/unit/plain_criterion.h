/* What test_backend_openblas_rows.c uses of Criterion, for a processor that Criterion is not
 * installed for: arm.sh. A test runs before main, and the first check that fails ends the program.
 */
#ifndef MOE_TESTS_PLAIN_CRITERION_H
#define MOE_TESTS_PLAIN_CRITERION_H

#include <stdio.h>
#include <stdlib.h>

#define Test(suite, name)                                                                          \
    static void name(void);                                                                        \
    __attribute__((constructor)) static void suite##_##name(void) {                                \
        name();                                                                                    \
        puts(#suite "::" #name " passed");                                                         \
    }                                                                                              \
    static void name(void)

#define cr_expect(condition, ...)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define cr_expect_eq(a, b, ...) cr_expect((a) == (b))
#define cr_assert_eq            cr_expect_eq

int main(void) {
    return 0;
}

#endif

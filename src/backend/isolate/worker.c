/* moeref-worker: the process in which one plug-in runs. Started by the library, never by hand. */
#include "moeref/isolation.h"

#include <stdio.h>

int main(int argc, char **argv) {
    (void)argv;
    if (argc != 2) {
        fprintf(stderr, "moeref-worker is started by libmoeref, to run one backend\n");
        return 2;
    }
    return moe_isolation_serve();
}

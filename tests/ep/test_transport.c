/* What threads that do not agree are told, and that none of them waits for ever. */
#include "moeref/ep.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

typedef struct rank {
    const moe_transport *transport;
    void *group;
    int32_t number, phase;
    int64_t sends[2], expects[2];
    char in[64];
    moe_status status;
} rank;

static void *exchange(void *user) {
    rank *r = user;
    const char out[64] = {'a', 'b', 'c', 'd'};
    const moe_exchange what = {.phase = r->phase,
                               .send = out,
                               .receive = r->in,
                               .send_bytes = r->sends,
                               .receive_bytes = r->expects};
    r->status = r->transport->exchange(r->group, r->number, &what);
    return NULL;
}

/* Runs the first `count` of two ranks; returns what the group says. */
static void run(rank *r, int count, char *ret_fault, size_t size) {
    const moe_transport *transport = moe_transport_threads();
    const moe_transport_params params = {2, 0.3, NULL};
    void *group = NULL;
    pthread_t thread[2];
    cr_assert_eq(transport->open(&params, &group), MOE_OK);
    for (int i = 0; i < count; i++) {
        r[i].transport = transport;
        r[i].group = group;
        r[i].number = i;
        cr_assert_eq(pthread_create(&thread[i], NULL, exchange, &r[i]), 0);
    }
    for (int i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
    snprintf(ret_fault, size, "%s", transport->fault(group));
    transport->close(group);
}

Test(ep_transport, bytes_arrive_in_order_of_ranks) {
    char fault[200];
    rank r[2] = {{.sends = {1, 2}, .expects = {1, 0}}, {.sends = {0, 1}, .expects = {2, 1}}};
    run(r, 2, fault, sizeof fault);
    cr_expect_str_eq(fault, "");
    cr_expect_eq(r[0].in[0], 'a');
    cr_expect_eq(memcmp(r[1].in, "bca", 3), 0);
}

Test(ep_transport, a_rank_that_does_not_come_is_named) {
    char fault[200];
    rank r[2] = {{.phase = MOE_EP_COMBINE}};
    run(r, 1, fault, sizeof fault);
    cr_expect_eq(r[0].status, MOE_E_DEVICE);
    cr_expect_str_eq(fault, "rank 0 waited 0.3 s for rank 1 in combine");
}

Test(ep_transport, other_sizes_and_other_phases_are_told) {
    char fault[200];
    rank sizes[2] = {{.sends = {0, 2}}, {.expects = {3, 0}}};
    run(sizes, 2, fault, sizeof fault);
    cr_expect_str_eq(fault, "in counts rank 1 expects 3 bytes of rank 0, which sends 2");
    cr_expect(sizes[0].status && sizes[1].status);
    rank phases[2] = {{.phase = MOE_EP_COMBINE}, {.phase = MOE_EP_DISPATCH}};
    run(phases, 2, fault, sizeof fault);
    cr_expect(strstr(fault, "is in dispatch while rank") || strstr(fault, "is in combine while"));
    cr_expect(phases[0].status && phases[1].status);
}

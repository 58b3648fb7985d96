/* Owners and chunks of experts, as the CUDA backend's kernels and their host count them. */
#include "../../backends/cuda/ep/chunks.h"
#include "moeref/ep.h"

#include <criterion/criterion.h>

Test(ep_chunks, experts_have_the_owners_of_the_library) {
    for (int E = 1; E <= 70; E++)
        for (int R = 1; R <= 16 && R <= E; R++) {
            for (int r = 0; r <= R; r++)
                cr_assert_eq(ep_first_expert(E, R, r), moe_ep_first_expert(E, R, r));
            for (int e = 0; e < E; e++) {
                const int q = ep_owner(E, R, e);
                cr_assert(ep_first_expert(E, R, q) <= e && e < ep_first_expert(E, R, q + 1),
                          "E=%d R=%d: expert %d is not rank %d's", E, R, e, q);
            }
        }
}

Test(ep_chunks, chunks_cover_all_experts_once) {
    for (int own = 0; own <= 70; own++)
        for (int chunks = 1; chunks <= 64; chunks++) {
            cr_assert_eq(ep_chunk_begin(own, chunks, 0), 0);
            cr_assert_eq(ep_chunk_begin(own, chunks, chunks), own);
            for (int i = 0; i < chunks; i++)
                cr_assert_leq(ep_chunk_begin(own, chunks, i), ep_chunk_begin(own, chunks, i + 1));
        }
}

Test(ep_chunks, the_last_chunk_is_half_as_large) {
    const int begin[] = {0, 26, 52, 65};
    for (int i = 0; i <= 3; i++)
        cr_assert_eq(ep_chunk_begin(65, 3, i), begin[i]);
}

/* Copies that are not worth their launch are not made. */
Test(ep_chunks, rows_are_brought_where_a_copy_is_large) {
    const int64_t pairs = 131072;
    cr_assert_eq(ep_chunks(1, pairs, 8, 4096), 1, "one rank has nobody to bring to");
    cr_assert_eq(ep_chunks(2, pairs, 1024, 4096), 3, "256 KiB an expert and rank");
    cr_assert_eq(ep_chunks(2, pairs, 1025, 4096), 1);
    cr_assert_eq(ep_chunks(2, 4096, 128, 4096), 1);
}

/* Experts without pairs own none. */
Test(ep_chunks, a_pair_is_of_the_expert_that_begins_before_it) {
    const int offsets[] = {0, 0, 3, 3, 3, 5, 5}, owner[] = {1, 1, 1, 4, 4};
    for (int pair = 0; pair < 5; pair++)
        cr_assert_eq(ep_expert_of(offsets, 6, pair), owner[pair], "pair %d", pair);
}

/* 4 row tiles by 6 column tiles an expert; two waves of 132 are 11 experts of them. */
Test(ep_chunks, early_experts_fill_the_multiprocessors_and_are_of_the_first_chunk) {
    cr_assert_eq(ep_early_waves(2, 8192), 4);
    cr_assert_eq(ep_early_waves(2, 2047), 0, "few tokens are there at once");
    cr_assert_eq(ep_early_experts(64, 3, 2, 132, 4, 6), 11);
    cr_assert_eq(ep_early_experts(64, 3, 9, 132, 4, 6), ep_chunk_begin(64, 3, 1));
    cr_assert_eq(ep_early_experts(64, 3, 2, 132, 0, 6), 0, "no tile is of own tokens alone");
    cr_assert_eq(ep_early_experts(64, 3, 0, 132, 4, 6), 0);
}

/* A share of (1 - 1/R)^K of the tokens has no expert of another rank: at most a quarter. */
Test(ep_chunks, all_tokens_go_where_most_do) {
    cr_assert(!ep_sends_all(2, 1) && ep_sends_all(2, 2) && ep_sends_all(2, 8));
    cr_assert(!ep_sends_all(4, 4) && ep_sends_all(4, 5));
    cr_assert(!ep_sends_all(8, 10) && ep_sends_all(8, 11));
}

/* What is brought home while others are multiplied are the chunks before the last. */
Test(ep_chunks, the_last_chunk_is_not_brought) {
    for (int own = 1; own <= 70; own++)
        for (int chunks = 1; chunks <= 64; chunks++)
            for (int e = 0; e < own; e++)
                cr_assert_eq(!ep_is_staged(own, chunks, e),
                             e >= ep_chunk_begin(own, chunks, chunks - 1));
}

/* Streams of the counter-based generator (moeref/rng.h), one for each thing that is drawn. Their
 * numbers are part of what a seed means: a case draws the same data everywhere, for good. */
#ifndef MOE_CORE_STREAMS_H
#define MOE_CORE_STREAMS_H

/* Tensors draw from the stream of their own id, below MOE_T_COUNT. */
typedef enum moe_int_stream {
    MOE_INT_STREAM_ROUTE = 1000,    /* which experts a given plan chooses */
    MOE_INT_STREAM_WEIGHT = 1001,   /* and its weights */
    MOE_INT_STREAM_COUNTS = 1002,   /* tokens per expert where no plan is made (cost model) */
    MOE_INT_STREAM_MASK = 1003,     /* tokens and slots without an expert */
    MOE_INT_STREAM_SAMPLE = 2000,   /* what the checker samples of a large shape */
    MOE_INT_STREAM_IDENTITY = 2001, /* the signs of its identities */
    MOE_INT_STREAM_ROUNDING = 0x726f756e64 /* the stochastic rule of token rounding */
} moe_int_stream;

#endif

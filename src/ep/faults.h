/* What the front end can be told to do wrong: a judge that lets one of these pass has a hole. */
#ifndef MOEREF_EP_FAULTS_H
#define MOEREF_EP_FAULTS_H

/* clang-format off */

/* ROW(value, name, what) */
#define MOE_INT_EP_FAULTS(ROW)                                                                     \
    ROW(WEIGHT_NEVER, "weight_never", "nobody multiplies Y by the weight")                         \
    ROW(WEIGHT_TWICE, "weight_twice", "owner and home both multiply Y by the weight")              \
    ROW(GRADIENT_WEIGHT_TWICE, "gradient_weight_twice", "home multiplies dX~ by the weight again") \
    ROW(SCAN_SHIFTED, "scan_shifted", "the receiver's scan of counts is off by a rank")            \
    ROW(PEERS_SWAPPED, "peers_swapped", "rows of two source ranks change places")                  \
    ROW(STALE_HANDLE, "stale_handle", "dO is dispatched with the handle of the input before")      \
    ROW(FIRST_EXPERT_ONLY, "first_expert_only", "a copy is expanded to its first expert alone")    \
    ROW(EMPTY_RANK_SKIPS, "empty_rank_skips", "a rank without tokens does not join in backward")   \
    ROW(DS_WRONG_PAIR, "ds_wrong_pair", "dS goes home in the owner's order of rows")               \
    ROW(SUM_WITHOUT_LAST, "sum_without_last", "the last rank's part of dW_r is not added")         \
    ROW(SUM_TWICE, "sum_twice", "the first rank's part of dW_r is added twice")                    \
    ROW(ROWS_HOME_UNPERMUTED, "rows_home_unpermuted", "Y goes home in the owner's order of rows")  \
    ROW(RANK_SLEEPS, "rank_sleeps", "a rank sleeps before it combines, longer than others wait")    \
    ROW(RANK_DIES, "rank_dies", "a rank's process is killed before it combines")                   \
    ROW(DX_NOT_SUMMED, "dx_not_summed", "home takes the last rank's part of dX alone")             \
    ROW(SCALES_SHIFTED, "scales_shifted", "a coded row is read with the scales of the one before") \
    ROW(REPLICA_TWICE, "replica_twice", "a pair goes to two of its expert's replicas")             \
    ROW(PART_MISSING, "part_missing", "home leaves out the last part of each pair's row")          \
    ROW(BIAS_OF_EVERY_PART, "bias_of_every_part", "each part of an expert adds b2")                \
    ROW(REPLICAS_NOT_SUMMED, "replicas_not_summed", "dW is that of an expert's first replica")     \
    ROW(CAPACITY_OF_RANK, "capacity_of_rank", "a capacity of all tokens is each rank's")                   \
    ROW(PADDING_NOT_SENT, "padding_not_sent", "rows of nobody are not sent")                       \
    ROW(PADDING_NOT_SCANNED, "padding_not_scanned", "the receiver's scan leaves them out")         \
    ROW(PADDING_REPEATS, "padding_repeats", "rows of nobody are an expert's last row again")

/* clang-format on */

typedef enum moe_int_ep_fault {
    MOE_INT_EP_RIGHT,
#define MOE_INT_EP_FAULT_ROW(value, name, what) MOE_INT_EP_##value,
    MOE_INT_EP_FAULTS(MOE_INT_EP_FAULT_ROW)
#undef MOE_INT_EP_FAULT_ROW
        MOE_INT_EP_FAULT_COUNT
} moe_int_ep_fault;

#endif

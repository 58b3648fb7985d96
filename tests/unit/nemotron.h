/* Of the config.json of NVIDIA-Nemotron-3-Super-120B-A12B, without its end: experts between
 * projections. */
#ifndef MOE_TESTS_NEMOTRON_H
#define MOE_TESTS_NEMOTRON_H

#define NEMOTRON_SUPER                                                                             \
    "{\"dtype\":\"bfloat16\",\"hidden_size\":4096,"                                                \
    "\"hybrid_override_pattern\":\"MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*"                          \
    "EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME\","                                       \
    "\"intermediate_size\":2688,\"mlp_hidden_act\":\"relu2\",\"model_type\":\"nemotron_h\","       \
    "\"moe_intermediate_size\":2688,\"moe_latent_size\":1024,"                                     \
    "\"moe_shared_expert_intermediate_size\":5376,\"n_group\":1,\"n_routed_experts\":512,"         \
    "\"n_shared_experts\":1,\"norm_topk_prob\":true,\"num_experts_per_tok\":22,"                   \
    "\"num_hidden_layers\":88,\"routed_scaling_factor\":5.0,\"topk_group\":1"

#endif

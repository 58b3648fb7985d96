"""Models of Transformers on moeref: loss, gradients and training as with their own experts."""
import copy

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import moeref  # noqa: E402
import moeref.transformers  # noqa: E402

if "openblas" not in moeref.backends():
    pytest.skip("no OpenBLAS on this machine", allow_module_level=True)
moeref.transformers.register()

SMALL = dict(vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, intermediate_size=48, max_position_embeddings=64,
             pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
MODELS = {
    "Qwen3Moe": dict(moe_intermediate_size=24, num_experts=8, num_experts_per_tok=2, head_dim=8),
    "Mixtral": dict(num_local_experts=4, num_experts_per_tok=2, head_dim=8),
    "Olmoe": dict(num_experts=8, num_experts_per_tok=3),
    "DeepseekV3": dict(moe_intermediate_size=24, n_routed_experts=8, num_experts_per_tok=2,
                       n_group=4, topk_group=2, first_k_dense_replace=1, q_lora_rank=16,
                       kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
                       num_key_value_heads=4),
    "Glm4Moe": dict(moe_intermediate_size=24, n_routed_experts=8, num_experts_per_tok=2,
                    first_k_dense_replace=1, head_dim=8),
    "GptOss": dict(num_local_experts=4, num_experts_per_tok=2, head_dim=8, sliding_window=16),
}


def model_of(kind, implementation):
    torch.manual_seed(3)
    config = getattr(transformers, kind + "Config")(**{**SMALL, **MODELS[kind]})
    model = getattr(transformers, kind + "ForCausalLM")._from_config(
        config, experts_implementation=implementation, dtype=torch.float32)
    for name, p in model.named_parameters():
        if "gate_up_proj" in name or "down_proj" in name:
            torch.nn.init.normal_(p, std=0.2)
    return model


def both(kind):
    eager = model_of(kind, "eager")
    mine = model_of(kind, "moeref")
    mine.load_state_dict(copy.deepcopy(eager.state_dict()))
    return eager, mine


def loss_of(model, step=0):
    words = torch.randint(3, 96, (2, 17), generator=torch.Generator().manual_seed(step))
    return model(input_ids=words, labels=words).loss


@pytest.mark.parametrize("kind", MODELS)
def test_loss_and_gradients(kind):
    eager, mine = both(kind)
    ran = []
    watched = moeref.transformers.experts
    moeref.transformers.experts = lambda *a, **k: (ran.append(1), watched(*a, **k))[1]
    try:
        losses = [loss_of(model) for model in (eager, mine)]
    finally:
        moeref.transformers.experts = watched
    assert ran, "the model did not run on moeref"
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
    for loss in losses:
        loss.backward()
    for (name, a), (_, b) in zip(eager.named_parameters(), mine.named_parameters()):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            error = (a.grad - b.grad).norm() / (a.grad.norm() + 1e-12)
            assert error < 2e-5, (name, float(error))


@pytest.mark.parametrize("kind", MODELS)
def test_training(kind):
    losses = []
    for model in both(kind):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        told = []
        for step in range(20):
            optimizer.zero_grad()
            loss = loss_of(model, step % 4)
            loss.backward()
            optimizer.step()
            told.append(loss.item())
        losses.append(told)
    assert losses[0][-1] < losses[0][0]
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=2e-4, atol=0)


def test_what_it_cannot_do_has_a_name():
    model = model_of("Qwen3Moe", "moeref")
    block = [m for m in model.modules() if hasattr(m, "gate_up_proj")][0]
    block.act_fn = torch.nn.Tanh()
    with pytest.raises(moeref.UnsupportedError, match="Qwen3MoeExperts.*Tanh.*eager"):
        loss_of(model)

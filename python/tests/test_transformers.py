"""Models of Transformers on moeref: loss, gradients and training as with their own experts."""
import copy
import importlib

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


GATES = [("deepseek_v4", "DeepseekV4Experts", "swiglu_limit"), ("beam", "BeamExperts", "swiglu"),
         ("gemma4", "Gemma4TextExperts", "geglu_tanh"),
         ("minimax_m3_vl", "MiniMaxM3VLExperts", "swiglu_clamp"),
         ("inkling2", "Inkling2Experts", "swiglu_softcap"),
         ("gpt_oss", "GptOssExperts", "swiglu_clamp"), ("mixtral", "MixtralExperts", "swiglu")]


def experts_module(folder, name):
    """A model's experts alone, small; skips where this Transformers has no such model."""
    file = f"transformers.models.{folder}.modeling_{folder}"
    try:
        module = importlib.import_module(file)
    except ImportError:
        pytest.skip(f"no {file}")
    sizes = dict(hidden_size=16, moe_intermediate_size=12, intermediate_size=12, num_experts=4,
                 n_routed_experts=4, num_local_experts=4, num_experts_per_tok=2)
    for config_class in {v for v in vars(module).values() if isinstance(v, type) and issubclass(
            v, transformers.PretrainedConfig)} - {transformers.PretrainedConfig}:
        config = config_class()
        for key in sizes.keys() & set(dir(config)):
            setattr(config, key, sizes[key])
        try:
            made = getattr(module, name)(config)
        except AttributeError:
            continue  # of another part of the model
        if made.down_proj.numel() < 4000:
            return made
    raise AssertionError(f"no configuration of {file} makes {name}")


@pytest.mark.parametrize("folder, name, act", GATES)
def test_gates_of_models(folder, name, act):
    """Limits and caps that models have of their own are found out, and kept."""
    module = experts_module(folder, name)
    generator = torch.Generator().manual_seed(5)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=1.5, generator=generator)  # far beyond the limits
    assert moeref.transformers._activation(module)[0] == act
    E = module.down_proj.shape[0]
    x = torch.randn(9, 16, generator=generator).requires_grad_()
    index = torch.stack([torch.randperm(E, generator=generator)[:2] for _ in range(9)])
    weights = torch.rand(9, 2, generator=generator).requires_grad_()
    results = []
    for implementation in ("eager", "moeref"):
        module.config._experts_implementation = implementation
        out = module(x, index, weights)
        results.append([out, *torch.autograd.grad(out.square().sum(),
                                                  [x, weights, *module.parameters()])])
    for a, b in zip(*results):
        assert (a - b).norm() <= 2e-6 * a.norm()


def test_a_device_without_a_backend_has_a_name():
    module = experts_module("mixtral", "MixtralExperts").to("meta")
    module.config._experts_implementation = "moeref"
    index = torch.zeros(3, 1, dtype=torch.int64, device="meta")
    with pytest.raises(moeref.UnsupportedError, match="no backend for tensors on meta"):
        module(torch.zeros(3, 16, device="meta"), index, torch.ones(3, 1, device="meta"))


def test_a_gate_of_nobody_has_a_name():
    module = experts_module("mixtral", "MixtralExperts")
    module.config._experts_implementation = "moeref"
    tanh = type("Own", (type(module),), {"_apply_gate": lambda self, z: torch.tanh(z[..., :12])})
    module.__class__ = tanh
    with pytest.raises(moeref.UnsupportedError, match="its gate .* is one of its own"):
        module(torch.zeros(3, 16), torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 1))


@pytest.mark.parametrize("kind", ["Qwen3Moe", "GptOss"])
def test_compiled_from_the_first_call(kind):
    """Without graph breaks, and without a call before that has found out what its gate is."""
    model = model_of(kind, "moeref").eval()
    words = torch.randint(3, 96, (2, 17), generator=torch.Generator().manual_seed(1))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    got = compiled(words).logits
    torch.testing.assert_close(got, model(words).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_exported_from_the_first_call():
    model = model_of("Qwen3Moe", "moeref").eval()
    words = torch.randint(3, 96, (2, 17), generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        exported = torch.export.export(model, (words,), dict(use_cache=False), strict=False)
        got = exported.module()(words, use_cache=False).logits
        torch.testing.assert_close(got, model(words).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("folder, name", [("mixtral", "MixtralExperts"),
                                          ("gpt_oss", "GptOssExperts")])
@pytest.mark.parametrize("dtype, weights", [(torch.float32, torch.float32),
                                            (torch.float32, torch.bfloat16),
                                            (torch.bfloat16, torch.float32)])
def test_autocast(folder, name, dtype, weights):
    """Runs as a model's own experts do, and as near to the truth, but for one rounding to
    bf16 (2^-8): biases, which torch adds in their own dtype, go with the products."""
    module, generator = experts_module(folder, name), torch.Generator().manual_seed(3)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=generator).bfloat16().to(weights)
    given = torch.randn(9, 16, generator=generator).bfloat16()
    index, rows = torch.arange(4).repeat(9, 1), torch.rand(9, 4, generator=generator)
    told = []
    for implementation in ("eager", "moeref", "truth"):
        truth = implementation == "truth"
        module.config._experts_implementation = "eager" if truth else implementation
        module = module.double() if truth else module
        x = given.to(torch.float64 if truth else dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=not truth):
            out = module(x, index, rows)
        told.append([out, *torch.autograd.grad(out.sum(), [x, *module.parameters()])])
    for eager, mine, true in zip(*told):
        assert eager.dtype == mine.dtype
        assert (mine - true).norm() <= 1.2 * (eager - true).norm() + 2 ** -8 * true.norm()


def test_an_activation_that_changes_between_calls():
    module = experts_module("mixtral", "MixtralExperts")
    generator = torch.Generator().manual_seed(3)
    for p in module.parameters():
        torch.nn.init.normal_(p, generator=generator)
    call = torch.randn(9, 16, generator=generator), torch.arange(4).repeat(9, 1), torch.ones(9, 4)
    for act in (module.act_fn, torch.nn.GELU()):
        module.act_fn, outs = act, []
        for implementation in ("eager", "moeref"):
            module.config._experts_implementation = implementation
            outs.append(module(*call))
        assert (outs[1] - outs[0]).norm() <= 2e-6 * outs[0].norm()

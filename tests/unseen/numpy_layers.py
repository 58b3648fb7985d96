"""The layers that results of numpy_kernel.py are made for."""
LAYERS = {
    "small": "T=96 d=80 n=48 E=8 K=2 renorm=1 seed=301",
    "mid": "T=384 d=320 n=192 E=16 K=4 renorm=1 seed=302",
    "raw": "T=256 d=256 n=128 E=32 K=8 seed=303",
    "large": "T=1024 d=768 n=256 E=64 K=8 renorm=1 seed=304",
    "wide": "T=512 d=2048 n=512 E=16 K=2 renorm=1 seed=305",
    "long": "T=2048 d=768 n=128 E=64 K=4 renorm=1 seed=306",
    "sigmoid": "T=256 d=256 n=96 E=32 K=4 score=sigmoid select_bias=1 renorm=1 scale=2.5 seed=307",
    "oss": "T=256 d=320 n=192 E=16 K=4 score=softmax_topk act=swiglu_clamp limit=2 bias=1 "
           "router_bias=1 glu=interleaved seed=308",
    "shared": "T=192 d=128 n=64 E=16 K=2 shared=96 shared_gate=1 renorm=1 seed=309",
    "one": "T=256 d=192 n=128 E=8 K=1 score=sigmoid on=input seed=310",
    "holes": "T=256 d=192 n=128 E=16 K=4 route=uniform masked=20 drop=30 seed=311",
    "relu2": "T=192 d=160 n=96 E=8 K=2 act=relu2 seed=312",
    "geglu": "T=192 d=160 n=96 E=8 K=2 act=geglu seed=313",
    "square": "T=128 d=128 n=64 E=8 K=2 seed=314",
    "capacity": "T=256 d=192 n=64 E=16 K=2 select=capacity capacity=30 renorm=1 seed=317",
    "counts": "T=512 d=192 n=128 E=4 K=2 route=counts:300+200+270+254 seed=316",
    "turned": "T=192 d=192 n=96 E=8 K=2 glu=interleaved seed=315",
}

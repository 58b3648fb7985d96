"""Reverse-mode differentiation of numpy expressions, in float64.

A value remembers what it was made of and how a gradient goes back there; `backward` visits all of
them once, the last made first. Choices (top-k, masks) are made on plain arrays, so that no gradient
passes through them, as in the models.
"""

import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])


def fit(g, shape):
    """Sums a gradient over the axes along which a value was broadcast."""
    while g.ndim > len(shape):
        g = g.sum(0)
    for axis, size in enumerate(shape):
        if size == 1 and g.shape[axis] != 1:
            g = g.sum(axis, keepdims=True)
    return g


class V:
    def __init__(self, data, parents=()):
        self.data = np.asarray(data, float)
        self.parents = parents  # (value, function of the gradient)
        self.grad = np.zeros_like(self.data)

    def __add__(self, o):
        o = as_v(o)
        return V(self.data + o.data, ((self, lambda g: g), (o, lambda g: g)))

    def __mul__(self, o):
        o = as_v(o)
        return V(self.data * o.data, ((self, lambda g: g * o.data), (o, lambda g: g * self.data)))

    def __truediv__(self, o):
        o = as_v(o)
        return V(self.data / o.data, ((self, lambda g: g / o.data),
                                      (o, lambda g: -g * self.data / o.data**2)))

    def __sub__(self, o):
        return self + as_v(o) * -1.0

    def __rsub__(self, o):
        return as_v(o) - self

    def __rtruediv__(self, o):
        return as_v(o) / self

    def __pow__(self, p):
        return V(self.data**p, ((self, lambda g: g * p * self.data**(p - 1)),))

    def __matmul__(self, o):
        return V(self.data @ o.data, ((self, lambda g: g @ o.data.T),
                                      (o, lambda g: self.data.T @ g)))

    def __getitem__(self, index):
        def back(g):
            whole = np.zeros_like(self.data)
            np.add.at(whole, index, g)
            return whole
        return V(self.data[index], ((self, back),))

    __radd__, __rmul__ = __add__, __mul__

    @property
    def T(self):
        return V(self.data.T, ((self, lambda g: g.T),))

    def reshape(self, *shape):
        return V(self.data.reshape(shape), ((self, lambda g: g.reshape(self.data.shape)),))

    def sum(self, axis=-1):
        return V(self.data.sum(axis, keepdims=True),
                 ((self, lambda g: np.broadcast_to(g, self.data.shape)),))

    def backward(self, g):
        order, seen = [], set()

        def visit(v):
            if id(v) in seen:
                return
            seen.add(id(v))
            for parent, _ in v.parents:
                visit(parent)
            order.append(v)

        visit(self)
        self.grad = self.grad + g
        for v in reversed(order):
            for parent, back in v.parents:
                parent.grad = parent.grad + fit(back(v.grad), parent.data.shape)


def as_v(x):
    return x if isinstance(x, V) else V(x)


def unary(f, slope):
    return lambda x: V(f(x.data), ((x, lambda g: g * slope(x.data)),))


def sig(x):
    return 1 / (1 + np.exp(-x))


exp = unary(np.exp, np.exp)
tanh = unary(np.tanh, lambda x: 1 - np.tanh(x)**2)
sigmoid = unary(sig, lambda x: sig(x) * (1 - sig(x)))
softplus = unary(lambda x: np.log1p(np.exp(x)), sig)
relu = unary(lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0)
gelu = unary(lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
             lambda x: 0.5 * (1 + erf(x / math.sqrt(2))) +
             x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def silu(x):
    return x * sigmoid(x)


def gelu_tanh(x):
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def clip(x, low, high):
    return V(np.clip(x.data, low, high),
             ((x, lambda g: g * ((x.data >= low) & (x.data <= high))),))


def softmax(z):
    e = exp(z - z.data.max(-1, keepdims=True))
    return e / e.sum()


def rms(x, eps):
    return x * ((x**2).sum() / x.data.shape[-1] + eps)**-0.5


def join(values, axis=-1):
    ends = np.cumsum([v.data.shape[axis] for v in values])[:-1]
    return V(np.concatenate([v.data for v in values], axis),
             tuple((v, lambda g, i=i: np.split(g, ends, axis)[i]) for i, v in enumerate(values)))

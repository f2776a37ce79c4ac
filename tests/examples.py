"""Small valid options of every built-in kind; `tests/test_examples.py` fails for a kind without any."""

from typing import Any

import aezoo

LAYERS: dict[str, list[tuple[dict[str, Any], tuple[int, ...]]]] = {
    "linear": [
        ({"out_features": 5}, (7,)),
        (
            {"out_features": 5, "bias": False, "activation": "gelu", "norm": "layer_norm", "dropout": 0.5},
            (7,),
        ),
        ({"out_features": 4, "norm": "batch_norm", "activation": {"kind": "elu", "alpha": 0.5}}, (7,)),
        ({"out_features": 5, "repeat": 3, "activation": "tanh"}, (7,)),
    ],
    "conv": [
        ({"out_channels": 3, "kernel_size": 3}, (2, 8, 8)),
        (
            {"out_channels": 4, "kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0], "groups": 2},
            (2, 8, 8),
        ),
        ({"out_channels": 3, "kernel_size": 3, "padding": "same", "padding_mode": "circular"}, (2, 8, 8)),
        ({"out_channels": 2, "kernel_size": [4, 3], "padding": "same"}, (2, 8, 8)),
        ({"out_channels": 3, "kernel_size": 3, "dilation": 2, "norm": "batch_norm"}, (2, 12)),
        ({"out_channels": 2, "kernel_size": 2, "norm": "layer_norm", "activation": "silu"}, (1, 4, 4, 4)),
    ],
    "conv_transpose": [
        ({"out_channels": 3, "kernel_size": 3, "stride": 2, "output_padding": 1}, (2, 4, 4)),
        ({"out_channels": 2, "kernel_size": 4, "padding": 1, "activation": "softplus"}, (2, 6)),
    ],
    "max_pool": [
        ({"kernel_size": 2}, (2, 5, 5)),
        ({"kernel_size": 2, "switches": "pool1"}, (2, 5, 5)),
        ({"kernel_size": 3, "stride": 1, "padding": 1}, (2, 8)),
    ],
    "avg_pool": [({"kernel_size": 2, "ceil_mode": True}, (2, 5, 5))],
    "upsample": [
        ({}, (2, 3, 3)),
        ({"scale_factor": 1.5, "mode": "linear"}, (2, 4, 4)),
        ({"mode": "linear"}, (2, 4)),
        ({"mode": "zeros", "scale_factor": 3.0}, (2, 4, 3)),
    ],
    "flatten": [({}, (2, 3, 4))],
    "unflatten": [({"shape": [2, 3, 4]}, (24,))],
    "residual": [
        (
            {
                "layers": [{"kind": "linear", "out_features": 6, "activation": "relu", "repeat": 2}],
                "repeat": 2,
            },
            (6,),
        ),
        (
            {
                "layers": [
                    {"kind": "conv", "out_channels": 2, "kernel_size": 3, "padding": "same"},
                    {"kind": "residual", "layers": [{"kind": "conv", "out_channels": 2, "kernel_size": 1}]},
                ],
                "activation": "relu",
            },
            (2, 4, 4),
        ),
    ],
    "topk": [({"k": 3}, (7,)), ({"k": 5, "by": "magnitude"}, (2, 3, 3)), ({"k": 7}, (7,))],
    "lifetime": [({"rate": 0.4}, (7,)), ({"rate": 1.0}, (2, 3))],
    "max_unpool": [
        ({"kernel_size": 2, "switches": "pool1"}, (2, 6, 6)),
        ({"kernel_size": 3, "stride": 4, "padding": 1, "size": 10, "switches": "a"}, (2, 10)),
        ({"kernel_size": [2, 1, 2], "size": [5, 2, 4], "switches": "volume"}, (1, 5, 2, 4)),
    ],
    "unit_norm_linear": [
        ({"out_features": 5}, (7,)),
        ({"out_features": 4, "bias": False, "activation": "relu"}, (3,)),
    ],
    "gaussian_sample": [({}, (6,)), ({}, (4, 3, 3))],
    "dropout": [({"p": 0.5}, (7,)), ({"p": 0.1}, (2, 3, 3))],
    "batch_norm": [({}, (7,)), ({}, (2, 5)), ({}, (2, 3, 3)), ({}, (2, 2, 3, 3))],
    "layer_norm": [({}, (7,)), ({}, (2, 5)), ({}, (2, 3, 3))],
}
LOSSES: dict[str, list[dict[str, Any]]] = {
    "mse": [{}, {"reduction": "sum", "weight": 0.5}],
    "bce": [{}, {"reduction": "sum", "warmup_epochs": 2.0}],
    "l1": [{}, {"reduction": "sum"}],
    "huber": [{}, {"delta": 0.1, "reduction": "sum"}],
    "l1_latents": [{}],
    "kl_sparsity": [{}, {"rho": 0.2, "outside": "clamp"}],
    "vae_kl": [{}, {"free_bits": 0.5}],
    "contractive": [{}],
    "weight_decay": [{}, {"on": ["decoder.0"]}],
    "auxk": [{}, {"k": 2, "dead_after": 3}],
}
NOISES: dict[str, list[dict[str, Any]]] = {
    "gaussian": [{"std": 0.3}, {"std": 0.3, "clip": [0, 1]}],
    "masking": [{"share": 0.25}, {"share": 1.0, "value": 0.5}],
    "salt_pepper": [{"share": 0.25}, {"share": 1.0, "pepper": -0.5, "salt": 0.5}],
    "grayscale": [{}],
}
DATASETS: dict[str, list[dict[str, Any]]] = {
    "mnist": [{}],
    "fashion_mnist": [{}],
    "torchvision": [{"name": "MNIST"}, {"name": "FashionMNIST", "holdout": 5}],
    "images": [
        {"path": "photos", "size": [32, 48]},
        {
            "path": "photos",
            "size": [32, 32],
            "channels": 1,
            "fit": "exact",
            "skip_corrupt": True,
            "workers": 2,
        },
    ],
    "array": [{"path": "data.npy"}, {"path": "data.npz", "key": "x", "labels": "y", "scale": "standard"}],
    "table": [
        {"path": "data.csv"},
        {"path": "data.parquet", "columns": ["a", "b"], "label": "c", "test": 0.2},
    ],
    "windows": [
        {"path": "series.npy", "length": 16},
        {"path": "series.csv", "columns": ["a"], "length": 16, "stride": 4, "scale": "none", "test": 0.1},
    ],
    "photo_patches": [{}, {"size": 8, "channels": 1, "count": 100, "seed": 3}],
    "swiss_roll": [{}, {"count": 50, "noise": 0.1, "test": 0.0, "validation": 0.2}],
}
CALLBACKS: dict[str, list[dict[str, Any]]] = {
    "history": [{"path": "history.jsonl"}],
    "learning_rate": [{"path": "rates.jsonl"}],
    "checkpoint": [{"folder": "checkpoints"}, {"folder": "checkpoints", "every": 3}],
    "resample_dead": [{}, {"every": 2, "until": 8}],
    "tensorboard": [{"folder": "runs"}],
    "trackio": [{}, {"project": "mine"}],
    "wandb": [{}, {"project": "mine"}],
    "mlflow": [{}, {"experiment": "mine"}],
}

BY_FAMILY: dict[str, dict[str, Any]] = {
    "layer": LAYERS,
    "loss": LOSSES,
    "noise": NOISES,
    "dataset": DATASETS,
    "callback": CALLBACKS,
}


def before(kind: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers that must precede a layer, so that it finds the values it needs."""
    if kind != "max_unpool":
        return []
    return [{"kind": "max_pool", **{name: value for name, value in options.items() if name != "size"}}]


LAYER_CASES = [
    (
        tuple(
            aezoo.LayerSpec.model_validate(layer)
            for layer in (*before(kind, options), {"kind": kind, **options})
        ),
        in_shape,
    )
    for kind, cases in LAYERS.items()
    for options, in_shape in cases
]
"""For each example: the layers it needs followed by the layer itself, and their input shape."""


def small(**changes: Any) -> dict[str, Any]:
    """A small valid variant as plain data."""
    spec: dict[str, Any] = {
        "name": "small",
        "summary": "A small network for tests.",
        "input": {"shape": [1, 6, 6], "range": [0, 1]},
        "encoder": [
            {"kind": "flatten"},
            {"kind": "linear", "out_features": 8, "activation": "leaky_relu"},
            {"kind": "topk", "k": 3},
        ],
        "decoder": [
            {"kind": "linear", "out_features": 36, "activation": "sigmoid"},
            {"kind": "unflatten", "shape": [1, 6, 6]},
        ],
        "recipe": {
            "reconstruction": {"kind": "mse"},
            "batch_size": 16,
            "stages": [{"kind": "fit", "epochs": 2}],
        },
    }
    return spec | changes


def small_spec(**changes: Any) -> aezoo.VariantSpec:
    """The same, validated."""
    return aezoo.VariantSpec.model_validate(small(**changes))

"""Presets: network sizes and training lengths that fit a size of image and a device.

A preset is a partial configuration; YAML files, options and `--set` override it key by key.
"""

from typing import Any

from fewlabel.errors import UserError

__all__ = ["PRESETS", "TAUGHT", "preset_for", "preset_values"]

# For CIFAR on a GPU, as published.
_RARE = {"log_every": 100, "validate_every": 1000, "checkpoint_every": 1000}
_CIFAR_FIT = {
    "batch": 128,
    "learning_rate": 2e-4,
    "schedule": "constant",
    "weight_decay": 0.0,
    "clip": 1.0,
} | _RARE
_CIFAR_SCORE = {
    "widths": (128, 256, 256, 256),
    "attention": (False, True, False, False),  # at 16 × 16
    "dropout": 0.1,
}
_CIFAR_CLASSIFIER = {  # Chao et al. 2022, but for the averaged weights; of 100 classes resnet34
    "network": "resnet18",
    "widths": (64, 128, 256, 512),
    "fit": _CIFAR_FIT | {"steps": 60_000, "batch": 150, "warmup": 0, "ema": 0.999},
}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {  # 8 × 8 images on a CPU: minutes
        "process": {
            "name": "edm",
            "sigma_min": 0.01,
            "sigma_max": 20.0,
        },
        "score": {
            "times": {"name": "lognormal", "mean": -0.4, "std": 1.2},
            "widths": (32, 64),
            "layers": 1,
            "attention": (False, True),
            "fit": {"steps": 1000, "batch": 64, "learning_rate": 2e-3, "warmup": 100},
        },
        "classifier": {
            "widths": (32, 64),
            "layers": 1,
            "fit": {"steps": 600, "batch": 64, "learning_rate": 2e-3, "clip": 10.0},
        },
    },
    "small": {  # 28 to 32 pixels on a CPU: a quarter of an hour
        "process": {
            "name": "edm",
            "sigma_min": 0.005,
            "sigma_max": 50.0,
        },
        "score": {
            "times": {"name": "lognormal", "mean": -0.6, "std": 1.4},
            "widths": (64, 96, 128),
            "layers": 1,
            "attention": (False, False, True),
            "patch": 2,
            "fit": {
                "steps": 4000,
                "batch": 16,
                "learning_rate": 1e-3,
                "warmup": 200,
                "validate_every": 500,  # a validation takes as long as 25 steps
            },
        },
        "classifier": {
            "widths": (32, 64, 96),
            "layers": 1,
            "patch": 2,
            "times": {"mean": 0.8, "std": 1.6},
            "fit": {
                "steps": 800,
                "batch": 32,
                "learning_rate": 1e-3,
                "clip": 10.0,
                "validate_every": 200,
            },
        },
    },
    "ddpm": {  # CIFAR on a GPU: Ho et al. 2020, arXiv 2006.11239, with a linear β in VP
        "process": {"name": "vp"},
        "score": _CIFAR_SCORE
        | {"layers": 2, "fit": _CIFAR_FIT | {"steps": 800_000, "warmup": 5000, "ema": 0.9999}},
        "classifier": _CIFAR_CLASSIFIER,
    },
    "ddpm++": {  # CIFAR on a GPU: Song et al. 2021, arXiv 2011.13456, DDPM++ (continuous, VP)
        "process": {"name": "vp"},
        "score": _CIFAR_SCORE
        | {
            "layers": 4,
            "blocks": "ddpm++",
            "embedding": "positional",
            "fit": _CIFAR_FIT | {"steps": 1_300_000, "warmup": 5000, "ema": 0.9999},
        },
        "classifier": _CIFAR_CLASSIFIER,
    },
    "ncsn++": {  # CIFAR on a GPU: Chao et al. 2022, arXiv 2203.14206, NCSN++ (continuous, VE)
        "process": {"name": "ve", "sigma_min": 0.02, "sigma_max": 100.0},  # 0.01 to 50 in [0, 1]
        "score": _CIFAR_SCORE
        | {
            "layers": 8,
            "blocks": "ncsn++",
            "embedding": "fourier",
            "fit": _CIFAR_FIT | {"steps": 950_000, "warmup": 5000, "ema": 0.999},
        },
        "classifier": _CIFAR_CLASSIFIER,
    },
    "vector": {  # a few numbers an example, on a CPU: a minute
        "score": {
            "widths": (128,),
            "layers": 3,
            "attention": (False,),
            "sheet_every": 0,  # drawing takes as long as a hundred steps
            "fit": {"steps": 4000, "batch": 512, "learning_rate": 2e-3, "ema": 0.998},
        },
        "classifier": {
            "widths": (128,),
            "layers": 3,
            "fit": {"steps": 3000, "batch": 512, "learning_rate": 2e-3, "clip": 10.0},
        },
    },
}

TAUGHT: dict[str, dict[str, Any]] = {
    "tiny": {"classifier": {"fit": {"steps": 2400}}},
    "small": {"classifier": {"fit": {"steps": 3200}}},
}
"""What differs where a teacher gives the classifier all images: these presets are short, as a few
labels are soon known by heart."""


def preset_values(name: str, sigma_data: float) -> dict[str, Any]:
    """The preset called `name` for data of a standard deviation.

    The noise of vectors is scaled to the data: σ from σ_data/1000 to 10 σ_data.

    Raises:
        UserError: if there is no such preset.
    """
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if name != "vector":
        return preset
    low, high = (float(f"{factor * sigma_data:.2g}") for factor in (0.001, 10))
    return preset | {"process": {"name": "ve", "sigma_min": low, "sigma_max": high}}


def preset_for(shape: tuple[int, ...]) -> str:
    """The name of the preset for examples of shape (C, H, W) or (D,)."""
    if len(shape) == 1:
        return "vector"
    return "tiny" if max(shape[1:]) <= 16 else "small"

"""The configuration of a run: everything that decides its result, and nothing else."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from fewlabel.errors import UserError
from fewlabel.limits import read_text
from fewlabel.regular_file import regular

__all__ = [
    "ClassifierConfig",
    "Config",
    "FitConfig",
    "Request",
    "ScoreConfig",
    "read_yaml",
    "setting",
    "validated",
]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Spread = Annotated[float, Field(gt=1e-12, le=1e12)]  # its square must fit in float32
Count = Annotated[int, Field(gt=0)]
Batch = Annotated[int, Field(gt=0, le=2**20)]
# A network far beyond these would take minutes to lay out before its weights could be counted.
_MOST_LAYERS, _WIDEST, _MOST_LEVELS = 64, 2**14, 12
Layers = Annotated[int, Field(gt=0, le=_MOST_LAYERS)]
Patch = Annotated[int, Field(gt=0, le=64)]
Width = Annotated[
    int, Field(gt=0, le=_WIDEST, multiple_of=8)  # channels are normalised in 8 groups
]
Section = TypeVar("Section", bound="_Section")

_FLOAT = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_FIRST = list("-+.0123456789")
_LONGEST = 2**18  # letters of a configuration
_LARGEST = 10**18
_SHOWN = 120


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in version 1.2, and no value stands for many others.

    Aliases of aliases are short to write and endless to read.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            name = self.peek_event().anchor
            raise yaml.YAMLError(f"it has the alias *{name}; write the value there instead")
        return super().compose_node(parent, index)


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    number = loader.construct_yaml_int(node)
    if abs(number) >= _LARGEST:
        raise ValueError("a whole number has more than 18 digits")
    return number


class _Dumper(yaml.SafeDumper):
    """YAML as `_Loader` reads it: a text like 1e-3 is quoted, and there are no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, _FIRST)
_Dumper.add_implicit_resolver(_FLOAT, _EXPONENT, _FIRST)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class FitConfig(_Section):
    """How a model is fitted: AdamW with a linear warm-up, then a decay of the learning rate.

    Attributes:
        steps: training steps.
        batch: rows of a step, over all processes and micro-batches.
        accumulate: micro-batches that a step is computed in, one after the other, to save memory.
        learning_rate: its largest value.
        warmup: steps over which it rises to that.
        schedule: how it falls: √(1 − step/steps), half a cosine, or not at all.
        weight_decay: of AdamW.
        clip: the longest gradient; a longer one is shortened to it.
        ema: decay of the averaged weights; it warms up, see `fewlabel.training.ema`.
        weights: the weight of each loss.
        balance: draw labelled examples equally often of each class.
        labelled_share: the share of labelled examples where a loss sees all data; None for that
            of the data.
        flip: mirror each image at random, left and right; for photographs, not for writing.
        patience: validations without a better one after which training stops early; None for
            never. The weights of the best validation are then those of the run.
        log_every: steps between lines of the log.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
    """

    steps: Count
    batch: Batch = 64
    accumulate: Count = 1
    learning_rate: Positive = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 50
    schedule: Literal["sqrt", "cosine", "constant"] = "sqrt"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Positive = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    weights: dict[str, float] = {}
    balance: bool = False
    labelled_share: Annotated[float, Field(ge=0, le=1)] | None = None
    flip: bool = False
    patience: Count | None = None
    log_every: Count = 20
    validate_every: Count = 100
    checkpoint_every: Count = 100


class ScoreConfig(_Section):
    """The score model: a UNet (channels, layers and attention of each level).

    `blocks` are those of Ho et al. 2020, or of DDPM++ or NCSN++ (Song et al. 2021). For vectors
    the model is a perceptron, with the first width and that many layers. Every `sheet_every` steps
    of its training a sheet of samples is drawn; 0 is never. `times` is the distribution of
    training times (`fewlabel.objectives.times`); empty for that of the process.

    Of an imported model, `unet` is the configuration of diffusers' UNet2DModel in the place of
    widths and the like, and `prediction` and `time_scale` are those of `fewlabel.score`.
    """

    unet: dict[str, Any] | None = None
    widths: Annotated[
        tuple[Width, ...], Field(validate_default=True, max_length=_MOST_LEVELS)
    ] = ()
    layers: Layers = 1
    attention: Annotated[tuple[bool, ...], Field(validate_default=True)] = ()
    patch: Patch = 1
    blocks: Literal["plain", "ddpm++", "ncsn++"] = "plain"
    embedding: Literal["positional", "fourier"] = "positional"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    prediction: Literal["preconditioned", "noise", "clean", "velocity", "score"] = "preconditioned"
    time_scale: Positive = 1.0
    times: dict[str, Any] = {}
    sheet_every: Annotated[int, Field(ge=0)] = 500
    fit: FitConfig

    @field_validator("unet")
    @classmethod
    def _not_endless(cls, unet: dict[str, Any] | None) -> dict[str, Any] | None:
        found = unet or {}
        for key, most in {"layers_per_block": _MOST_LAYERS, "block_out_channels": _WIDEST}.items():
            given = found.get(key, 1)
            numbers = given if isinstance(given, list | tuple) else [given]
            if len(numbers) > _MOST_LEVELS:
                raise ValueError(f"{key} has more than {_MOST_LEVELS} levels")
            if not all(isinstance(number, int) and 0 < number <= most for number in numbers):
                raise ValueError(f"{key} is no whole number from 1 to {most}")
        return unet

    @field_validator("widths")
    @classmethod
    def _some(cls, widths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if not widths and info.data.get("unet") is None:
            raise ValueError("give at least one width")
        return widths

    @field_validator("attention")
    @classmethod
    def _one_a_level(cls, attention: tuple[bool, ...], info: ValidationInfo) -> tuple[bool, ...]:
        levels = len(info.data.get("widths", attention))
        if len(attention) != levels:
            raise ValueError(f"there are {levels} widths; give one true or false for each")
        return attention


class ClassifierConfig(_Section):
    """The noise-conditional classifier: its network and its energy.

    `network` is a small convolutional one ("conv": widths, and layers of each), a ResNet (four
    widths), or the encoder of the score network, with the settings of that ("encoder").

    `times` is the distribution of its training times, or what differs in it from that of the
    score model: classes are decided under stronger noise than details.
    """

    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=_MOST_LEVELS)]
    layers: Layers = 1
    patch: Patch = 1
    network: Literal["conv", "resnet18", "resnet34", "encoder"] = "conv"
    energy: Literal["scaled", "quadratic", "plain"] = "scaled"
    times: dict[str, Any] = {}
    fit: FitConfig

    @field_validator("network")
    @classmethod
    def _four_levels(cls, network: str, info: ValidationInfo) -> str:
        levels = len(info.data.get("widths", ())) or 4
        if network.startswith("resnet") and levels != 4:
            raise ValueError(f"{network} has 4 widths, not {levels}; set classifier.widths too")
        return network


class Request(_Section):
    """What must be right before the data can be opened.

    `seed` fixes labels, weights, order and noise; `label_seed` the labels alone, if it is given.
    """

    data: str
    size: Count | None = None
    labels: Annotated[str, Field(coerce_numbers_to_str=True)] = "all"
    method: str
    seed: int = 0
    label_seed: int | None = None
    preset: str | None = None
    sigma_data: Spread | None = None


class Config(Request):
    """The whole configuration, as `train` writes it to RUN/config.yaml.

    `precision` is that of the networks in training; None is bf16 on a GPU, float32 on a CPU. Where
    it is "bf16" they sample in bf16, too, and in float32 otherwise. With `compile` the frozen
    score model is compiled that a classifier is trained beside.
    `score_from` is the run whose score model is used. `teacher` is what labels the unlabelled, for
    methods that have a teacher: a run, a table of probabilities, or the name of a vision model.
    `score_id` and `teacher_id` are digests of what they hold: they may move, but not change.
    `imported_from` is where the score model came from, if it was trained elsewhere: then the run
    has no data.
    """

    preset: str
    shape: Annotated[tuple[Count, ...], Field(min_length=1)]
    sigma_data: Spread
    process: dict[str, Any]
    precision: Literal["no", "bf16", "fp16"] | None = None
    compile: bool = False
    score: ScoreConfig
    classifier: ClassifierConfig
    score_from: str | None = None
    score_id: str | None = None
    teacher: str | None = None
    teacher_id: str | None = None
    imported_from: str | None = None

    @field_validator("precision", mode="before")
    @classmethod
    def _no_is_a_word(cls, precision: Any) -> Any:
        return "no" if precision is False else precision  # YAML reads no as false

    def fit(self, stage: str) -> FitConfig:
        """How the model of a stage, "score" or "classifier", is fitted."""
        return self.score.fit if stage == "score" else self.classifier.fit

    def to_yaml(self) -> str:
        """The configuration as YAML; `read_yaml` and `validated` read it back."""
        return yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False)


def validated(values: dict[str, Any], where: str, kind: type[Section]) -> Section:
    """Check plain values and make them a section of a kind, such as `Config`.

    Raises:
        UserError: naming the first key that is unknown, missing or of the wrong kind.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = f"unknown key; the keys there are {_keys(kind, first['loc'])}"
        else:
            told = first["msg"].lower().removeprefix("value error, ")
            message = f"{told}, got {_shown(first.get('input'))}"
        raise UserError(f"{where}: {key}: {message}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: if the file is missing, is no regular file, is not YAML or holds no mapping.
    """
    try:
        values = _parsed(read_text(regular(path)))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the path of a YAML file") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no mapping; write `key: value` lines as in a config.yaml")
    return values


def setting(text: str) -> tuple[str, Any]:
    """The key and the value of "key=value", the value as YAML.

    Raises:
        UserError: for a text of another form.
    """
    key, separator, value = text.partition("=")
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    if not separator or not key:
        raise UserError(f"--set {shown}: not of the form key=value, such as score.fit.steps=2000")
    try:
        return key, _parsed(value)
    except ValueError:
        raise UserError(f"--set {shown}: the value is not YAML; quote it") from None


def _parsed(text: str) -> Any:
    """The value that a YAML text says.

    Raises:
        ValueError: for none, and for one that is too long or too deep to be a configuration.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a configuration has at most {_LONGEST:,} letters, not {len(text):,}")
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _shown(value: Any) -> str:
    """A value as it was given, at a length that can be read."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _keys(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The keys of the section that the last part of a location does not belong to."""
    section: Any = kind
    for part in location[:-1]:
        section = section.model_fields[str(part)].annotation
    return ", ".join(section.model_fields)

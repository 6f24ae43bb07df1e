"""The options of train_gpt that affect what step_cost.py counts, from files and command line, checked."""

import math
import pathlib
import re

COUNTS = {"VOCAB_SIZE": 1024, "NUM_LAYERS": 9, "MODEL_DIM": 512, "NUM_HEADS": 8, "NUM_KV_HEADS": 4,
          "TRAIN_SEQ_LEN": 1024, "TRAIN_BATCH_TOKENS": 524288, "MICRO_BATCH_TOKENS": 0, "MUON_BACKEND_STEPS": 5,
          "NUM_LOOPS": 0, "LOOP_START": -1, "LOOP_END": -1, "PARALLEL_RESIDUAL_START": -1, "XSA_LAST_N": 0, "BIGRAM_VOCAB_SIZE": 0, "BIGRAM_DIM": 128, "VE_DIM": 128}
SWITCHES = {"TIE_EMBEDDINGS": True, "UNET_SKIPS": True, "RESID_MIX": True, "PARALLEL_BLOCK": False,
            "SKIP_GATES_ENABLED": False, "SMEAR_GATE": False, "MUON_ROW_NORMALIZE": False}
NUMBERS = {"GRAD_CLIP_NORM": 0.0, "MLP_MULT": 2.0, "MUON_WD": 0.0, "EMA_DECAY": 0.0}
LISTS = {"VE_LAYERS": ()}
CHOICES = {"MLP_KIND": ("relu2", "leaky_relu2", "swiglu"), "OPTIMIZER": ("muon", "adamw"), "CUDA_GRAPHS": ("auto", "on", "off")}
# Other values change the operations in ways that are not counted here.
FIXED = {"OPS": ("fast",), "DEVICE": ("auto", "cuda"), "DTYPE": ("auto", "bfloat16"), "MUON_DTYPE": ("auto", "bfloat16"),
         "NORM_WEIGHTS": ("0", "false"), "PARALLEL_PASSES": ("0", "1"), "MIN_STEPS": ("0",),
         "CONTROL_TENSOR_NAME_PATTERNS": ()}
MICRO_STEPS = 8  # kMicroSteps; a micro-batch is one or several


class UsageError(Exception):
    pass


def read_options(files, settings):
    """The options that affect the count, checked, with train_gpt's defaults."""
    texts = {}
    for file in files:
        texts.update(read_config(file))
    known = {**COUNTS, **SWITCHES, **NUMBERS, **LISTS, **CHOICES, **FIXED}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set takes NAME=VALUE, not {setting}")
        if name not in known:
            raise UsageError(f"--set {name}: not an option that affects the count; those are {', '.join(sorted(known))}")
        texts[name] = (value, "--set")
    options = {**COUNTS, **SWITCHES, **NUMBERS, **LISTS, **{name: values[0] for name, values in CHOICES.items()}}
    for name, (text, origin) in texts.items():
        if name in FIXED:
            if text not in FIXED[name]:
                wanted = f", only {' or '.join(FIXED[name])}" if FIXED[name] else "; remove it"
                raise UsageError(f"{origin}: {name}={text} is not supported{wanted}")
        elif name in known:
            options[name] = value_of(name, text, origin)
    check(options)
    return options


def read_config(file):
    """{name: (text, origin)} of a file of KEY=VALUE lines. Options that do not affect the count may have any text."""
    try:
        lines = pathlib.Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    texts = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise UsageError(f"{file}:{number}: missing '='")
        value = re.split(r"(?:^|\s)#", value)[0].strip().strip("'\"")
        texts[name.strip()] = (value, f"{file}:{number}")
    return texts


def value_of(name, text, origin):
    if name in CHOICES:
        if text not in CHOICES[name]:
            raise UsageError(f"{origin}: {name}={text} is not supported, only {' or '.join(CHOICES[name])}")
        return text
    if name in SWITCHES:
        if text.lower() not in ("0", "1", "false", "true"):
            raise UsageError(f"{origin}: {name} must be 0 or 1, not {text}")
        return text.lower() in ("1", "true")
    if name in LISTS:
        if not re.fullmatch(r"(\d+(,\d+)*)?", text):
            raise UsageError(f"{origin}: {name} takes numbers separated by commas, not {text}")
        return tuple(map(int, filter(None, text.split(","))))
    try:
        value = int(text) if name in COUNTS else float(text)
    except ValueError:
        raise UsageError(f"{origin}: {name} must be a number, not {text}") from None
    from_0 = ("MICRO_BATCH_TOKENS", "MUON_BACKEND_STEPS", "XSA_LAST_N", "BIGRAM_VOCAB_SIZE", "NUM_LOOPS", *NUMBERS)
    lowest = 0 if name in from_0 else -1 if name in ("LOOP_START", "LOOP_END", "PARALLEL_RESIDUAL_START") else 1
    if not math.isfinite(value) or value < lowest:
        raise UsageError(f"{origin}: {name} must be at least {lowest}, not {text}")
    return value


def check(options):
    """What train_gpt refuses, and what its kernels do not cover (src/ops/kernels/cuda/coverage.h)."""
    dim, heads, kv_heads = options["MODEL_DIM"], options["NUM_HEADS"], options["NUM_KV_HEADS"]
    if dim % heads != 0 or dim // heads % 2 != 0 or heads % kv_heads != 0:
        raise UsageError(f"MODEL_DIM={dim}: NUM_HEADS ({heads}) must divide it into an even number of dims per head, and "
                         f"NUM_KV_HEADS ({kv_heads}) must divide NUM_HEADS")
    if options["TRAIN_BATCH_TOKENS"] % (MICRO_STEPS * options["TRAIN_SEQ_LEN"]) != 0:
        raise UsageError(f"TRAIN_BATCH_TOKENS={options['TRAIN_BATCH_TOKENS']} must be a multiple of {MICRO_STEPS} * "
                         f"TRAIN_SEQ_LEN={options['TRAIN_SEQ_LEN']}")
    for name, limit in (("MODEL_DIM", 4096), ("VOCAB_SIZE", 65536)):
        if options[name] > limit:
            raise UsageError(f"{name}={options[name]} is more than the fused kernels support ({limit})")
    if int(options["MLP_MULT"] * dim) < 1:
        raise UsageError(f"MLP_MULT={options['MLP_MULT']} of MODEL_DIM={dim} is less than one unit")
    if dim // heads > 256:
        raise UsageError(f"heads of {dim // heads} dims are more than the fused kernels support (256)")
    if options["SKIP_GATES_ENABLED"] and not options["UNET_SKIPS"]:
        raise UsageError("SKIP_GATES_ENABLED=1: there are no skip connections to gate; set UNET_SKIPS=1")
    if options["NUM_LOOPS"] > 0 and not 0 <= options["LOOP_START"] <= options["LOOP_END"] < options["NUM_LAYERS"]:
        raise UsageError("NUM_LOOPS needs LOOP_START and LOOP_END, blocks in this order")
    layers = options["VE_LAYERS"]
    if len(set(layers)) != len(layers) or not all(layer < options["NUM_LAYERS"] for layer in layers):
        raise UsageError(f"VE_LAYERS={','.join(map(str, layers))} must be different blocks, from 0 to {options['NUM_LAYERS'] - 1}")


def micro_batches_of(options, given):
    if given is not None:
        if given not in (1, 2, 4, 8):
            raise UsageError(f"--micro-batches must be 1, 2, 4 or 8, not {given}")
        return given
    tokens, wanted, together = options["TRAIN_BATCH_TOKENS"] // MICRO_STEPS, options["MICRO_BATCH_TOKENS"], 1
    if wanted and wanted not in (tokens, 2 * tokens, 4 * tokens, 8 * tokens):
        raise UsageError(f"MICRO_BATCH_TOKENS={wanted} must be 1, 2, 4 or 8 micro-steps of {tokens} tokens")
    while 2 * together * tokens <= wanted:
        together *= 2
    return MICRO_STEPS // together

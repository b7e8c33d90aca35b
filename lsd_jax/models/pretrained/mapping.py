"""From the state dicts of SEDD, RADD, MDLM, Duo and GPT-2 to our parameters: names, layouts and sizes.

SEDD, RADD, MDLM and Duo are one transformer under the same names. PyTorch keeps a linear map as (out, in), flax as (in, out);
GPT-2's are (in, out) already. Sizes are read off the tensors; only the number of heads needs a config.json or a buffer.
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.models.ddit import DDiT, DDiTConfig, TimeEmbedding
from lsd_jax.models.gpt2 import GPT2, GPT2Config
from lsd_jax.models.tensors import fit, nested, shapes_of

FAMILIES = ("sedd", "radd", "mdlm", "duo", "gpt2")
_HEAD_DIM = 64  # of every published model here, where nothing says otherwise
_DDIT = {
    "vocab_embed.embedding": "embed/embedding",
    "sigma_map.mlp.0": "time/in",
    "sigma_map.mlp.2": "time/out",
    "output_layer.norm_final": "norm",
    "output_layer.linear": "head",
    "output_layer.adaLN_modulation": "modulation",
    "blocks.{}.norm1": "block_{}/norm1",
    "blocks.{}.norm2": "block_{}/norm2",
    "blocks.{}.attn_qkv": "block_{}/qkv",
    "blocks.{}.attn_out": "block_{}/attention_out",
    "blocks.{}.mlp.0": "block_{}/mlp_in",
    "blocks.{}.mlp.2": "block_{}/mlp_out",
    "blocks.{}.adaLN_modulation": "block_{}/modulation",
}
_GPT2 = {
    "wte.weight": "embed/embedding",
    "wpe.weight": "position/embedding",
    "ln_f": "norm",
    "h.{}.ln_1": "block_{}/norm1",
    "h.{}.ln_2": "block_{}/norm2",
    "h.{}.attn.c_attn": "block_{}/qkv",
    "h.{}.attn.c_proj": "block_{}/attention_out",
    "h.{}.mlp.c_fc": "block_{}/mlp_in",
    "h.{}.mlp.c_proj": "block_{}/mlp_out",
}
_EMBEDDING, _HEAD = "vocab_embed.embedding", ("output_layer.linear.weight", "output_layer.linear.bias")
# Parts of a name that torch.compile and DistributedDataParallel put in, at any depth; networks beside the one that samples.
_WRAPPER = r"(?:_orig_mod|module)\."
_WRAPPERS = re.compile(rf"(?<![^.])(?:{_WRAPPER})+")
_HELPERS = re.compile(r"(?:.*\.)?(?:teacher|discriminator)\.")
_BUFFERS = r"rotary_emb\.inv_freq|h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight"


def to_ours(
    family: str, tensors: dict[str, np.ndarray], card: dict[str, Any], masked: bool, vocab_size: int | None = None
) -> tuple[Any, Any]:
    """(sizes, float32 parameters) of a published network from its tensors and its config.json (or {}).

    Args:
        family: one of FAMILIES.
        masked: whether a row of its table is a mask (`mask_row`); its logit, which no sampler reads, is dropped. Without one
            a row of zeros fills our table.
        vocab_size: number of data tokens; rows past them (padding of the table, a [PAD] that no data has) are left out. None:
            the rows below the mask, or all.

    Raises:
        ValueError: another architecture, or tensors that are missing, unknown or misshapen; the message names them.
    """
    state = weights_of(tensors, "wte.weight" if family == "gpt2" else "vocab_embed.embedding", family)
    if family == "gpt2":
        sizes = _gpt2_sizes(state, card)
        params = _renamed(state, _GPT2, GPT2(sizes), sizes.depth, transpose=False)
        return sizes, params
    time = "sigma_map.mlp.0.weight"
    if (time in state) == (family == "radd"):
        has = "has" if time in state else "lacks"
        raise InputError(f"another architecture: it {has} a time input ({time}), and no {family.upper()} network does")
    rows = len(state[_EMBEDDING])
    mask = mask_row(card, rows, vocab_size) if masked else None
    sizes = _ddit_sizes(state, card, vocab_size or (rows if mask is None else mask))
    state = _with_head(state, card)
    state = _data_tokens_only(state, sizes.vocab_size, mask)
    params = _renamed(state, _DDIT, DDiT(sizes), sizes.depth, transpose=True)
    if family == "mdlm" and not card.get("time_conditioning", False):
        return without_time(sizes, params)
    return sizes, params


def mask_row(card: dict[str, Any], rows: int, vocab_size: int | None) -> int:
    """The mask's row of a table: what the checkpoint's config.json says, else the last one.

    Raises:
        ValueError: nothing tells which of several rows past the data's tokens it is, or there is none.
    """
    for name in ("mask_index", "mask_token_id"):
        if isinstance(row := card.get(name, card.get("model", {}).get(name)), int):
            if not 0 <= row < rows:
                raise InputError(f"its config.json says {name}={row}, and its table has {rows} rows")
            return row
    if vocab_size is not None and rows <= vocab_size:
        raise InputError(f"its table has {rows} rows; vocab_size={vocab_size} and a mask need {vocab_size + 1}")
    if vocab_size is not None and rows > vocab_size + 1:
        raise InputError(
            f"its table has {rows} rows for vocab_size={vocab_size} and a mask, and nothing tells which one the mask is: put "
            '{"mask_index": ROW} into config.json beside the weights, or correct vocab_size'
        )
    return rows - 1


def weights_of(tensors: dict[str, np.ndarray], anchor: str, family: str) -> dict[str, np.ndarray]:
    """The network's own tensors, wrappers' prefixes off: the EMA's where a checkpoint holds one, as its authors sample with it.

    An EMA is a second network (`student_ema.`, DiDi-Instruct), or a list of the parameters in the state dict's order, buffers
    left out (`ema.shadow_params`: training checkpoints of SEDD, MDLM and Duo). Beside such a network a list is not read:
    DiDi-Instruct inherits one from MDLM's trainer and trains by manual optimization, where Lightning never calls the hook that
    updates it.

    Raises:
        ValueError: no or several such networks, or a list that does not fit.
    """
    wrapped = re.compile(r"((?:.*\.)?)" + rf"\.(?:{_WRAPPER})*".join(map(re.escape, anchor.split("."))))
    prefixes = [found[1] for found in map(wrapped.fullmatch, tensors) if found]
    if not prefixes:
        shown = ", ".join(list(tensors)[:3])
        raise InputError(f"no tensor {anchor!r}, which every {family.upper()} checkpoint has; it holds {shown} ...")
    if len(prefixes) > 1:
        prefixes = [name for name in prefixes if not _HELPERS.fullmatch(_WRAPPERS.sub("", name))] or prefixes
    averaged = [prefix for prefix in prefixes if "ema" in prefix]
    prefixes = averaged or prefixes
    if len(prefixes) > 1:
        raise InputError(f"several networks, under {prefixes}: keep one of them")
    prefix = prefixes[0]
    own = {_WRAPPERS.sub("", name[len(prefix) :]): value for name, value in tensors.items() if name.startswith(prefix)}
    if family == "gpt2":  # tied to the embedding, it lies beside the transformer
        own.pop("lm_head.weight", None)
    own = {name: value for name, value in own.items() if "shadow_params" not in name}
    shadow = [value for name, value in tensors.items() if re.search(r"shadow_params\.\d+$", name)]
    if averaged or not shadow:
        return own
    names = [name for name in own if not re.fullmatch(_BUFFERS, name)]
    if [own[name].shape for name in names] != [value.shape for value in shadow]:
        raise InputError(f"its EMA holds {len(shadow)} tensors that do not fit the network's {len(names)}, one by one")
    return own | dict(zip(names, shadow))


def without_time(sizes: DDiTConfig, params: Any) -> tuple[DDiTConfig, Any]:
    """A network that is always shown sigma = 0 (MDLM), as the equal one without a time input.

    Its shifts, scales and gates are constants: shift and scale go into the norms, gates into the layers they multiply.
    """
    tree = jax.tree.map(np.asarray, params["params"])
    sigma = TimeEmbedding(sizes.conditioning).apply({"params": tree.pop("time")}, jnp.zeros(1))[0]
    condition = np.asarray(jax.nn.silu(sigma))

    def constants(modulation: dict[str, np.ndarray], count: int) -> list[np.ndarray]:
        return np.split(condition @ modulation["kernel"] + modulation["bias"], count)

    def norm(old: dict[str, np.ndarray], shift: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        return {"scale": old["scale"] * (1 + scale), "bias": shift}

    for block in (tree[f"block_{index}"] for index in range(sizes.depth)):
        shift1, scale1, gate1, shift2, scale2, gate2 = constants(block.pop("modulation"), 6)
        block["norm1"], block["norm2"] = norm(block["norm1"], shift1, scale1), norm(block["norm2"], shift2, scale2)
        block["attention_out"] = {"kernel": block["attention_out"]["kernel"] * gate1}
        block["mlp_out"] = {name: value * gate2 for name, value in block["mlp_out"].items()}
    tree["norm"] = norm(tree["norm"], *constants(tree.pop("modulation"), 2))
    sizes = dataclasses.replace(sizes, time_conditioned=False, norm_bias=True)
    return sizes, jax.tree.map(jnp.asarray, {"params": tree})


def _gpt2_sizes(state: dict[str, np.ndarray], card: dict[str, Any]) -> GPT2Config:
    vocab_size, dim = state["wte.weight"].shape
    positions = len(state.get("wpe.weight", ()))
    return GPT2Config(vocab_size, positions, dim, _depth(state, "h"), card.get("n_head") or _heads(dim, _HEAD_DIM))


def _ddit_sizes(state: dict[str, np.ndarray], card: dict[str, Any], vocab_size: int) -> DDiTConfig:
    dim = state[_EMBEDDING].shape[1]
    heads = card.get("model", card).get("n_heads")
    if not heads:
        heads = _heads(dim, 2 * len(state["rotary_emb.inv_freq"]) if "rotary_emb.inv_freq" in state else _HEAD_DIM)
    time = state.get("sigma_map.mlp.0.weight")
    return DDiTConfig(
        vocab_size=vocab_size,
        dim=dim,
        depth=_depth(state, "blocks"),
        heads=heads,
        mlp_ratio=len(state["blocks.0.mlp.0.weight"]) // dim if "blocks.0.mlp.0.weight" in state else 4,
        time_conditioned=time is not None,
        norm_bias="output_layer.norm_final.bias" in state,
        conditioning=128 if time is None else len(time),
    )


def _heads(dim: int, head_dim: int) -> int:
    if dim % head_dim:
        raise InputError(
            f"the number of heads of a network {dim} wide is unknown: put its config.json beside the weights"
        )
    return dim // head_dim


def _depth(state: dict[str, np.ndarray], blocks: str) -> int:
    return 1 + max((int(name.split(".")[1]) for name in state if name.startswith(blocks + ".")), default=-1)


def _with_head(state: dict[str, np.ndarray], card: dict[str, Any]) -> dict[str, np.ndarray]:
    """The state with an output layer: where it is tied, and so not stored, it is the embedding table, without a bias."""
    weight, bias = _HEAD
    if weight in state or card.get("tie_word_embeddings") is False:
        return state
    table = state[_EMBEDDING]
    return {weight: table, bias: np.zeros(len(table), np.float32)} | state


def _data_tokens_only(state: dict[str, np.ndarray], vocab_size: int, mask: int | None) -> dict[str, np.ndarray]:
    """Our layout of the vocabulary: outputs for data tokens alone, and one more embedding, the mask's or zeros."""
    table = state[_EMBEDDING]
    if vocab_size > len(table):
        raise InputError(f"its table has {len(table)} rows; vocab_size={vocab_size}")
    last = np.zeros_like(table[:1]) if mask is None else table[mask : mask + 1]
    state = state | {name: state[name][:vocab_size] for name in _HEAD if name in state}
    if mask is not None and mask < vocab_size and _HEAD[1] in state:  # among the data's tokens: it is never drawn
        state[_HEAD[1]] = np.where(np.arange(vocab_size) == mask, np.float32(-1e9), state[_HEAD[1]])
    return state | {_EMBEDDING: np.concatenate([table[:vocab_size], last])}


def _renamed(state: dict[str, np.ndarray], table: dict[str, str], model: Any, depth: int, transpose: bool) -> Any:
    """Our float32 parameters, every tensor of the network found and of the right shape, and none left over."""
    inputs = (jnp.zeros((1, 1), jnp.int32), *([jnp.zeros(1)] if isinstance(model, DDiT) else []))
    template = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    modules = {ours.format(i): theirs.format(i) for theirs, ours in table.items() for i in range(max(1, depth))}

    def theirs(name: str) -> str:
        module, kind = name.rsplit("/", 1)
        return modules[name] if kind == "embedding" else f"{modules[module]}.{'bias' if kind == 'bias' else 'weight'}"

    def turned(name: str, array: np.ndarray) -> np.ndarray:
        return array.T if transpose and name.endswith("/kernel") else array

    return {"params": nested(fit(state, shapes_of(template), theirs, turned, _BUFFERS))}

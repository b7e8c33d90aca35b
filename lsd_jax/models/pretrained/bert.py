"""From the state dicts of AntiBERTy and Sapiens, language models of antibodies, to our BERT: names, rows and sizes.

Data tokens are the 20 amino acids in the order of their letters, as in both vocabularies; the mask's row follows them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.models.bert import Bert, BertConfig
from lsd_jax.models.pretrained.mapping import weights_of
from lsd_jax.models.tensors import fit, nested, shapes_of


class Layout(NamedTuple):
    """How a checkpoint names and keeps BERT's tensors.

    Attributes:
        embedding, position: its tables of tokens and of positions.
        head: what the logits are read by, ".weight" and ".bias" left out.
        blocks: the prefix of its blocks' numbers.
        modules: its name of each other module -> ours.
        tokens, mask, ends: the rows of the data tokens, of the mask, of start and end.
        first: the first row of the table of positions that is used.
        epsilon: of its norms.
        spare: a pattern of tensors that no logit is read from.
    """

    embedding: str
    position: str
    head: str
    blocks: str
    modules: dict[str, str]
    tokens: slice
    mask: int
    ends: tuple[int, int]
    first: int
    epsilon: float
    spare: str


_HEADS = 8  # of both, where no config.json says otherwise
_TYPES = "bert.embeddings.token_type_embeddings.weight"
LAYOUTS = {
    "antiberty": Layout(
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.position_embeddings.weight",
        "cls.predictions.decoder",
        "bert.encoder.layer",
        {
            "bert.embeddings.LayerNorm": "norm",
            "bert.encoder.layer.{}.attention.self.query": "block_{}/query",
            "bert.encoder.layer.{}.attention.self.key": "block_{}/key",
            "bert.encoder.layer.{}.attention.self.value": "block_{}/value",
            "bert.encoder.layer.{}.attention.output.dense": "block_{}/attention_out",
            "bert.encoder.layer.{}.attention.output.LayerNorm": "block_{}/norm1",
            "bert.encoder.layer.{}.intermediate.dense": "block_{}/mlp_in",
            "bert.encoder.layer.{}.output.dense": "block_{}/mlp_out",
            "bert.encoder.layer.{}.output.LayerNorm": "block_{}/norm2",
            "cls.predictions.transform.dense": "transform",
            "cls.predictions.transform.LayerNorm": "transform_norm",
        },
        slice(5, 25),
        4,
        (2, 3),
        0,
        1e-12,
        r"bert\.pooler\..*|cls\.(species|chain|graft)\..*|cls\.predictions\.bias|.*position_ids|.*token_type_embeddings.*",
    ),
    "sapiens": Layout(
        "decoder.sentence_encoder.embed_tokens.weight",
        "decoder.sentence_encoder.embed_positions.weight",
        "decoder.lm_head",
        "decoder.sentence_encoder.layers",
        {
            "decoder.sentence_encoder.emb_layer_norm": "norm",
            "decoder.sentence_encoder.layers.{}.self_attn.q_proj": "block_{}/query",
            "decoder.sentence_encoder.layers.{}.self_attn.k_proj": "block_{}/key",
            "decoder.sentence_encoder.layers.{}.self_attn.v_proj": "block_{}/value",
            "decoder.sentence_encoder.layers.{}.self_attn.out_proj": "block_{}/attention_out",
            "decoder.sentence_encoder.layers.{}.self_attn_layer_norm": "block_{}/norm1",
            "decoder.sentence_encoder.layers.{}.fc1": "block_{}/mlp_in",
            "decoder.sentence_encoder.layers.{}.fc2": "block_{}/mlp_out",
            "decoder.sentence_encoder.layers.{}.final_layer_norm": "block_{}/norm2",
            "decoder.lm_head.dense": "transform",
            "decoder.lm_head.layer_norm": "transform_norm",
        },
        slice(4, 24),
        24,
        (0, 2),
        2,
        1e-5,
        r"decoder\.sentence_encoder\.version",
    ),
}


def to_ours(
    family: str, tensors: dict[str, np.ndarray], card: dict[str, Any], vocab_size: int | None = None
) -> tuple[BertConfig, Any]:
    """(sizes, float32 parameters) of a family of LAYOUTS from its tensors and its config.json (or {}).

    Args:
        vocab_size: 20; or 21 with a pad after the amino acids.

    Raises:
        ValueError: another `vocab_size`, or tensors that are missing, unknown or misshapen; the message names
            them.
    """
    layout = LAYOUTS[family]
    known = layout.tokens.stop - layout.tokens.start
    if vocab_size not in (None, known, known + 1):
        raise InputError(f"it knows the 20 amino acids, and with a pad 21 tokens; vocab_size={vocab_size}")
    padded = vocab_size == known + 1
    state = dict(weights_of(tensors, layout.embedding, family))
    table, positions = state.pop(layout.embedding), state.get(layout.position)
    rows = max(layout.tokens.stop, layout.mask + 1)
    if len(table) != rows or positions is None:
        raise InputError(f"its table has {len(table)} rows of tokens instead of {rows}, or it has no {layout.position}")
    types = state.get(_TYPES, np.zeros_like(positions[:1]))[:1]  # every token is of the first type: part of its place
    state[layout.position] = positions[layout.first :] + types
    state |= {
        # What stands at a pad is not read: the mask's row serves.
        "embed": table[[*range(rows)[layout.tokens], *[layout.mask] * padded, layout.mask]],
        "ends": table[list(layout.ends)],
        f"{layout.head}.weight": state.get(f"{layout.head}.weight", table)[layout.tokens],  # the table, where tied
        f"{layout.head}.bias": state.get(f"{layout.head}.bias", np.zeros(0))[layout.tokens],
    }
    sizes = _sizes(state, layout, card, padded)
    template = jax.eval_shape(Bert(sizes).init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    tables = {"embed/embedding": "embed", "ends/embedding": "ends", "position/embedding": layout.position}
    modules = {ours.format(i): name.format(i) for name, ours in layout.modules.items() for i in range(sizes.depth)}
    modules["head"] = layout.head

    def theirs(name: str) -> str:
        module, kind = name.rsplit("/", 1)
        return tables.get(name) or f"{modules[module]}.{'bias' if kind == 'bias' else 'weight'}"

    def turned(name: str, array: np.ndarray) -> np.ndarray:
        return array.T if name.endswith("/kernel") else array

    return sizes, {"params": nested(fit(state, shapes_of(template), theirs, turned, layout.spare))}


def _sizes(state: dict[str, np.ndarray], layout: Layout, card: dict[str, Any], padded: bool) -> BertConfig:
    blocks = {name.removeprefix(layout.blocks + ".").split(".")[0] for name in state if name.startswith(layout.blocks)}
    mlp = next((theirs for theirs, ours in layout.modules.items() if ours == "block_{}/mlp_in"), "").format(0)
    return BertConfig(
        vocab_size=len(state["embed"]) - 1,
        positions=len(state[layout.position]),
        dim=state["embed"].shape[1],
        depth=len(blocks),
        heads=card.get("num_attention_heads", _HEADS),
        mlp_dim=len(state.get(f"{mlp}.bias", ())),
        epsilon=card.get("layer_norm_eps", layout.epsilon),
        padded=padded,
    )

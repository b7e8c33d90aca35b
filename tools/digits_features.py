"""Trains the digits' feature network: a small classifier on the training split, seconds on a CPU.

    python -m tools.digits_features --output=FILE.safetensors

The shipped file lsd_jax/shipped/weights/digits_features.safetensors is this command's, seed 0.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import optax
from absl import app, flags, logging

from lsd_jax.models import image_features
from lsd_jax.tasks import images

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "Where to write the weights; must not exist.", required=True)
flags.DEFINE_integer("seed", 0, "Of initialization and batches.")
flags.DEFINE_integer("epochs", 60, "Passes over the 1,297 training digits.")


def train(seed: int, epochs: int) -> tuple[image_features.ClassifierConfig, dict, dict]:
    """(sizes, parameters, card with the accuracies)."""
    tokens, labels = images.read_digits()
    parts = {name: (jnp.asarray(tokens[part]), jnp.asarray(labels[part])) for name, part in images.DIGITS.items()}
    config = image_features.ClassifierConfig(images.Digits.image_shape, images.Digits.values)
    network, (x, y) = image_features.Classifier(config), parts["train"]
    key_init, key_order = jax.random.split(jax.random.key(seed))
    params = network.init(key_init, x[:1])
    batch = 64
    steps = epochs * (len(x) // batch)
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=0.05)

    def loss(params, x, y):
        logits = network.apply(params, x)[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(carry, key):
        params, state = carry
        chosen = jax.random.choice(key, len(x), (batch,), replace=False)
        grads = jax.grad(loss)(params, x[chosen], y[chosen])
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    carry = (params, optimizer.init(params))
    update = jax.jit(step)  # not scanned: XLA runs a CPU loop's convolutions on one core
    for key in jax.random.split(key_order, steps):
        carry = update(carry, key)
    params = carry[0]
    accuracy = lambda x, y: float((network.apply(params, x)[1].argmax(-1) == y).mean())
    card = {f"{name}_accuracy": round(accuracy(*part), 4) for name, part in parts.items()}
    return config, params, {"data": "digits, training split", "seed": seed, "epochs": epochs, **card}


def main(argv: list[str]) -> None:
    del argv
    path = pathlib.Path(FLAGS.output).expanduser()
    if path.exists():
        raise SystemExit(f"error: --output={str(path)!r} exists; choose another name")
    config, params, card = train(FLAGS.seed, FLAGS.epochs)
    command = " ".join(["python -m tools.digits_features", *sys.argv[1:]])
    image_features.save_classifier(path, params, config, {**card, "command": command})
    logging.info("%s: %s", path, card)


if __name__ == "__main__":
    app.run(main)

"""The divergence of a student's policy from its teacher's, and the weights of rows."""

import jax
import jax.numpy as jnp

from kilolayer.types import Array

# Share of the weight that is equal for all rows, so that no row is forgotten while the student errs
# on others.
UNIFORM_SHARE = 0.5


def gaussian_divergence(teacher: tuple[Array, Array], student: tuple[Array, Array]) -> Array:
    """KL(teacher || student) of two diagonal Gaussians, `[...]` in nats.

    teacher, student: `(mean, log_std)`, each `[..., action]`, as an `Actor` returns them. The
    divergence of the squashed policies is the same, because tanh is a bijection. In this direction
    the student covers what its teacher does (arXiv 1511.06295, section 3), and an error of the mean
    is measured in the student's standard deviations.
    """
    (mean, log_std), (student_mean, student_log_std) = teacher, student
    log_ratio = log_std - student_log_std
    standardised = (mean - student_mean) * jnp.exp(-student_log_std)
    return (0.5 * (jnp.exp(2 * log_ratio) + jnp.square(standardised) - 1) - log_ratio).sum(-1)


def critic_weights(teacher_energy: Array, student_energy: Array) -> Array:
    """The weight of each row, `[batch]` with mean 1; no gradient passes.

    teacher_energy, student_energy `[batch]`: f(s, a, g) of the deterministic action of each. The
    weight of a row is `0.5 + 0.5 * d / mean(d)` with the loss d = max(0, f(s, a_teacher, g) - f(s,
    a_student, g)): half of the weight goes to rows where the student's action costs something. This
    is our own variant of Q-DAGGER (arXiv 1805.08328, section 3.2), which uses the loss of the worst
    action instead. If no row loses anything, all weights are 1.
    """
    loss = jax.lax.stop_gradient(jnp.maximum(teacher_energy - student_energy, 0.0))
    mean = loss.mean()
    relative = jnp.where(mean > 0, loss / jnp.where(mean > 0, mean, 1.0), 1.0)
    return UNIFORM_SHARE + (1 - UNIFORM_SHARE) * relative

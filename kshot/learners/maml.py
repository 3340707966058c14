"""Model-agnostic meta-learning: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation", ICML 2017.

theta' = theta - inner_lr * grad L_support(theta), repeated; the outer loss is L_query(theta'), differentiated through
the inner steps (``maml``) or with the inner gradients held constant (``fomaml``, section 5.2).
"""

from kshot.learners.gradient import GradientLearner

MAML = GradientLearner("maml")
FOMAML = GradientLearner("fomaml", first_order=True)

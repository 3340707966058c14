"""Almost no inner loop, MAML that moves only the head: Raghu et al., "Rapid Learning or Feature Reuse?", ICLR 2020.

The encoder stays as it is: the manifest's ``precision`` changes nothing, unless its norms belong to the task.
"""

from kshot.learners.gradient import GradientLearner

ANIL = GradientLearner("anil", moves_encoder=False)

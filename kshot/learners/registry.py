"""The learners there are, by name."""

from kshot.contracts.errors import Invalid
from kshot.learners.anil import ANIL
from kshot.learners.base import Learner
from kshot.learners.contrastive import Contrastive
from kshot.learners.finetune import Finetune
from kshot.learners.maml import FOMAML, MAML
from kshot.learners.mamlpp import MAMLPP
from kshot.learners.matching import Matching
from kshot.learners.metasgd import MetaSGD
from kshot.learners.multitask import Multitask
from kshot.learners.protomaml import ProtoMAML
from kshot.learners.protonet import Protonet
from kshot.learners.reptile import Reptile
from kshot.learners.ridge import Ridge

LEARNERS: dict[str, Learner] = {
    learner.name: learner
    for learner in (
        Protonet(),
        Matching(),
        Contrastive(),
        Ridge(),
        MAML,
        FOMAML,
        ANIL,
        MetaSGD(),
        MAMLPP(),
        Reptile(),
        ProtoMAML(),
        Finetune(),
        Multitask(),
    )
}


def get_learner(name: str) -> Learner:
    """The learner of that name; Invalid where there is none."""
    learner = LEARNERS.get(name)
    if learner is None:
        raise Invalid(f"unknown learner; choose one of {', '.join(LEARNERS)}", param="options.learner")
    return learner

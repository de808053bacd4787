"""Training with Lightning, and the tables of optimisers and schedules. Importing this does not import torch."""

from selfkd.catalogue import Catalogue, Entry

__all__ = ["OPTIMIZERS", "SCHEDULES"]

OPTIMIZERS = Catalogue(
    "optimizer",
    {
        "sgd": Entry("selfkd.training.optimizers:sgd", "stochastic gradient descent with momentum"),
        "adamw": Entry("selfkd.training.optimizers:adamw", "Adam with decoupled weight decay"),
    },
    listing="the optimizers are sgd and adamw",
)

SCHEDULES = Catalogue(
    "schedule",
    {
        "multistep": Entry("selfkd.training.schedules:multistep", "drops at milestones"),
        "cosine": Entry("selfkd.training.schedules:cosine", "half a cosine"),
        "constant": Entry("selfkd.training.schedules:constant", "no change"),
    },
    listing="the schedules are multistep, cosine and constant",
)

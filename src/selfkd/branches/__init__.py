"""Modules that methods add to a backbone's stages for training."""

from selfkd.branches.dks_branches import DKSBranches
from selfkd.branches.exit_fusion import ExitFusion
from selfkd.branches.exits import DeployedExit, Exit, ExitOutput, StageExits
from selfkd.branches.gates import Gate
from selfkd.branches.pooled_fusion import DirectBranches, PooledFusionBranches
from selfkd.branches.stage_copies import last_stage_copy, stage_copies
from selfkd.branches.top_down_students import TopDownStudents

__all__ = [
    "DKSBranches",
    "DeployedExit",
    "DirectBranches",
    "Exit",
    "ExitFusion",
    "ExitOutput",
    "Gate",
    "PooledFusionBranches",
    "StageExits",
    "TopDownStudents",
    "last_stage_copy",
    "stage_copies",
]

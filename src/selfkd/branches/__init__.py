"""Modules that methods add to a backbone's stages for training."""

from selfkd.branches.branch_fusion import BranchFusion
from selfkd.branches.exit_chains import ExitChains
from selfkd.branches.exit_fusion import ExitFusion
from selfkd.branches.exits import DeployedExit, Exit, ExitOutput
from selfkd.branches.gates import Gate
from selfkd.branches.peer_attention import PeerAttention
from selfkd.branches.pooled_fusion import DirectBranches, PooledFusionBranches
from selfkd.branches.stage_copies import last_stage_copy, stage_copies
from selfkd.branches.top_down_students import TopDownStudents

__all__ = [
    "BranchFusion",
    "DeployedExit",
    "DirectBranches",
    "Exit",
    "ExitChains",
    "ExitFusion",
    "ExitOutput",
    "Gate",
    "PeerAttention",
    "PooledFusionBranches",
    "TopDownStudents",
    "last_stage_copy",
    "stage_copies",
]

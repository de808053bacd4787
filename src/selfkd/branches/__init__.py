"""Modules that methods add to a backbone's stages for training."""

from selfkd.branches.branch_fusion import BranchFusion
from selfkd.branches.dks_branches import DKSBranches
from selfkd.branches.exit_fusion import ExitFusion
from selfkd.branches.exits import DeployedExit, Exit, ExitOutput, StageExits
from selfkd.branches.gates import Gate
from selfkd.branches.peer_attention import PeerAttention
from selfkd.branches.pooled_fusion import DirectBranches, PooledFusionBranches
from selfkd.branches.self_teacher import SelfTeacher, SelfTeacherOutput
from selfkd.branches.stage_copies import last_stage_copy, stage_copies
from selfkd.branches.top_down_students import TopDownStudents

__all__ = [
    "BranchFusion",
    "DKSBranches",
    "DeployedExit",
    "DirectBranches",
    "Exit",
    "ExitFusion",
    "ExitOutput",
    "Gate",
    "PeerAttention",
    "PooledFusionBranches",
    "SelfTeacher",
    "SelfTeacherOutput",
    "StageExits",
    "TopDownStudents",
    "last_stage_copy",
    "stage_copies",
]
